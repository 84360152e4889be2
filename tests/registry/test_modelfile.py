"""Modelfiles are read, refused and written as Ollama's are."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.errors import ModelfileError
from mull.registry.manifest import Contents, ModelConfig
from mull.registry.modelfile import Command, Modelfile


def commands(text: str | bytes) -> list[tuple[str, ...]]:
    return [(command.name, *command.args) for command in Modelfile.parse(text).commands]


def value_of(text: str) -> str:
    return Modelfile.parse(f"FROM m\n{text}").commands[1].value


def test_every_command() -> None:
    text = """
# a comment
FROM ./model.gguf
from second
   Adapter ./lora.gguf
DRAFT tiny
PARAMETER temperature 0.7
parameter stop "<|end|> "
PARAMETER stop <|eot|>
TEMPLATE {{ messages[0].content }}
SYSTEM You are brief. # not a comment
MESSAGE user Hello: there
MESSAGE assistant "Hi!"
LICENSE MIT
LICENSE Apache
REQUIRES 0.14.0
RENDERER qwen3
PARSER qwen3
"""
    assert commands(text) == [
        ("from", "./model.gguf"),
        ("from", "second"),
        ("adapter", "./lora.gguf"),
        ("draft", "tiny"),
        ("parameter", "temperature", "0.7"),
        ("parameter", "stop", "<|end|> "),
        ("parameter", "stop", "<|eot|>"),
        ("template", "{{ messages[0].content }}"),
        ("system", "You are brief. # not a comment"),
        ("message", "user", "Hello: there"),
        ("message", "assistant", "Hi!"),
        ("license", "MIT"),
        ("license", "Apache"),
        ("requires", "0.14.0"),
        ("renderer", "qwen3"),
        ("parser", "qwen3"),
    ]
    modelfile = Modelfile.parse(text)
    assert modelfile.parameters() == {"temperature": 0.7, "stop": ["<|end|> ", "<|eot|>"]}
    assert modelfile.messages() == (("user", "Hello: there"), ("assistant", "Hi!"))
    assert modelfile.warnings == (
        "RENDERER is kept and has no effect",
        "PARSER is kept and has no effect",
    )
    system = modelfile.last("system")
    assert system is not None
    assert (system.line, system.column) == (11, 1)
    adapter = modelfile.all("adapter")[0]
    assert (adapter.line, adapter.column) == (5, 4)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("SYSTEM   padded   value   ", "padded   value"),
        ("SYSTEM \t x", "x"),
        ('SYSTEM "  kept  "', "  kept  "),
        ('SYSTEM ""', ""),
        ('SYSTEM """"""', ""),
        ("SYSTEM \n", ""),
        ('SYSTEM "\'"', "'"),
        ('SYSTEM """\nTwo\nlines.\n"""   \n\n', "\nTwo\nlines.\n"),
        ('SYSTEM """first\nlast"""', "first\nlast"),
        ('SYSTEM "one\ntwo"', "one\ntwo"),
        ('SYSTEM """say "hi"\nor ""so"" """', 'say "hi"\nor ""so"" '),
        ('SYSTEM "a" and "b"', 'a" and "b'),
        ('SYSTEM """"quoted""""', '"quoted"'),
        ('SYSTEM it\'s "so"', 'it\'s "so"'),
        ('SYSTEM "crlf\r\nhere"\r\n', "crlf\r\nhere"),
        ("SYSTEM bare\r\n# end\r\n", "bare"),
        ("SYSTEM 👩‍💻 ok", "👩‍💻 ok"),
        ("SYSTEM x\n\t", "x"),
    ],
)
def test_values(written: str, value: str) -> None:
    assert value_of(written) == value


_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", '
    '"renderer", "parser", "parameter", "message", or "requires"'
)


@pytest.mark.parametrize(
    ("text", "message", "line", "column", "hint"),
    [
        ("", "no FROM line", None, None, "FROM takes"),
        ("# only\nSYSTEM hi", "no FROM line", None, None, "FROM takes"),
        ("FROM a\nSYSTM hi", _COMMAND, 2, 1, "SYSTEM"),
        ("FROM a\n\n  BADCOMMAND x", _COMMAND, 3, 3, None),
        ("FROM a\nSYSTEM", "unexpected EOF", 2, 1, "needs a value"),
        ("FROM a\nSYSTEM\nLICENSE x", _COMMAND, 2, 1, "needs a value"),
        ("FROM: a", _COMMAND, 1, 1, "needs a value"),
        ("FROM \nSYSTEM x", "FROM needs a value", 1, 1, None),
        (
            "FROM a\nMESSAGE badguy hi",
            'message role must be one of "system", "user", or "assistant"',
            2,
            1,
            None,
        ),
        ("FROM a\nMESSAGE user", "unexpected EOF", 2, 1, "role"),
        ("FROM a\nMESSAGE user\n", "unexpected EOF: user", 2, 1, "role"),
        ("FROM a\nPARAMETER num_ctx\n", "unexpected EOF: num_ctx", 2, 1, "name"),
        ('FROM a\nSYSTEM """never\nclosed""', "unexpected EOF", 2, 1, '"""'),
        ('FROM a\r\nSYSTEM "', "unexpected EOF", 2, 1, '"'),
        ("FROM a\nPARAMETER temprature 1", "unknown parameter 'temprature'", 2, 1, "temperature"),
        ("FROM a\nPARAMETER qqq 1", "unknown parameter 'qqq'", 2, 1, "known parameters"),
        ("FROM a\nPARAMETER top_k 1.5", "invalid int value [1.5]", 2, 1, None),
        (
            "FROM a\nPARAMETER top_k 9223372036854775808",
            "invalid int value [9223372036854775808]",
            2,
            1,
            None,
        ),
        ("FROM a\nPARAMETER top_p high", "invalid float value [high]", 2, 1, None),
        ("FROM a\nPARAMETER top_p nan", "invalid float value [nan]", 2, 1, None),
        ("FROM a\nPARAMETER top_p 1e999", "invalid float value [1e999]", 2, 1, None),
        ("FROM a\nPARAMETER use_mmap yes", "invalid bool value [yes]", 2, 1, None),
        ("FROM a\nPARAMETER think_budget lots", "invalid think_budget value [lots]", 2, 1, "share"),
        ("FROM a\nREQUIRES soon", "requires must be a valid semver (e.g. 0.14.0)", 2, 1, None),
        (b"FROM a\nSYSTEM caf\xe9", "the Modelfile is not UTF-8 text", 2, 11, None),
        (b"\xff\xfeF", "the Modelfile is not UTF-16 text", 1, 1, None),
    ],
)
def test_errors(
    text: str | bytes, message: str, line: int | None, column: int | None, hint: str | None
) -> None:
    with pytest.raises(ModelfileError) as caught:
        Modelfile.parse(text)
    where = "" if line is None else f" (line {line}, column {column})"
    assert caught.value.message == message + where
    assert (caught.value.line, caught.value.column) == (line, column)
    if hint is not None:
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    text = "FROM bob\nPARAMETER num_ctx 4096\nSYSTEM Grüße.\n"
    assert commands(text.encode(encoding)) == commands(text)
    big_endian = b"\xfe\xff" + text.encode("utf-16-be")
    assert commands(big_endian) == commands(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("num_ctx 8192", {"num_ctx": 8192}),
        ("num_predict -1", {"num_predict": -1}),
        ("temperature 1", {"temperature": 1.0}),
        ("min_p .05", {"min_p": 0.05}),
        ("typical_p 1e-1", {"typical_p": 0.1}),
        ("use_mmap F", {"use_mmap": False}),
        ("mirostat 2", {"mirostat": 2}),
        ("mirostat_tau 4", {"mirostat_tau": 4.0}),
        ("samplers top_k;temperature", {"samplers": "top_k;temperature"}),
        ("dry_sequence_breakers :", {"dry_sequence_breakers": [":"]}),
        ("dry_penalty_last_n -1", {"dry_penalty_last_n": -1}),
        ("top_n_sigma 1", {"top_n_sigma": 1.0}),
        ("stop 3", {"stop": ["3"]}),
        ("think_budget 25%", {"think_budget": "25%"}),
        ("think_min 64", {"think_min": "64"}),
        ("think_rounds 2", {"think_rounds": 2}),
        ('think_wait """\nWait"""', {"think_wait": "\nWait"}),
        ("think_soft 0.75", {"think_soft": 0.75}),
        ("think_message Enough.", {"think_message": "Enough."}),
        ("think_exit confidence:0.95", {"think_exit": "confidence:0.95"}),
        ("think_loop off", {"think_loop": "off"}),
        ("think_history strip", {"think_history": "strip"}),
        ("think_reserve 256", {"think_reserve": "256"}),
        ("think medium", {"think": "medium"}),
    ],
)
def test_parameters(written: str, value: dict[str, object]) -> None:
    assert Modelfile.parse(f"FROM m\nPARAMETER {written}").parameters() == value


def test_deprecated_parameters_warn() -> None:
    modelfile = Modelfile.parse("FROM m\nPARAMETER low_vram 2\nPARAMETER low_vram 1\nPARAMETER seed 3")
    assert modelfile.warnings == ("parameter low_vram is deprecated",)
    assert modelfile.parameters() == {"seed": 3}


def test_last_scalar_wins() -> None:
    modelfile = Modelfile.parse("FROM m\nPARAMETER seed 3\nPARAMETER seed 4\nSYSTEM a\nSYSTEM b")
    assert modelfile.parameters() == {"seed": 4}
    assert modelfile.last("system") == Command("system", ("b",))
    assert modelfile.last("template") is None


_VALUES = st.text(alphabet='ab "\n\r\t#{}🙂', max_size=12)


@given(
    st.lists(
        st.tuples(st.sampled_from(["SYSTEM", "TEMPLATE", "LICENSE", "MESSAGE user"]), _VALUES), max_size=4
    )
)
def test_parse_render_parse(pairs: list[tuple[str, str]]) -> None:
    text = "FROM m\n" + "".join(f'{name} """{value}"""\n' for name, value in pairs)
    try:
        parsed = Modelfile.parse(text)
    except ModelfileError:
        return
    assert Modelfile.parse(parsed.render()) == parsed


@given(_VALUES)
def test_render_keeps_any_value_without_triple_quotes(value: str) -> None:
    if '"""' in value:
        return
    modelfile = Modelfile((Command("from", ("m",)), Command("system", (value,))))
    assert Modelfile.parse(modelfile.render()) == modelfile


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_garbage_gives_our_error(source: str | bytes) -> None:
    with suppress(ModelfileError):
        assert Modelfile.parse(source).last("from") is not None


def test_render_looks_like_a_modelfile() -> None:
    text = 'FROM m\nPARAMETER stop "a "\nSYSTEM """two\n"lines""""\nMESSAGE user hi\n'
    assert Modelfile.parse(text).render() == text


def test_from_contents() -> None:
    contents = Contents(
        config=ModelConfig("gguf", requires="1.2.3"),
        template="{{ messages }}",
        system="Be brief.\nVery.",
        parameters={"temperature": 0.5, "stop": ["a", "b"], "use_mmap": True},
        messages=(("user", "hi"),),
        licenses=("MIT", "text\n"),
        adapters=(),
        drafts=(),
        projectors=(),
    )
    modelfile = Modelfile.parse(Modelfile.from_contents(contents, "/blobs/sha256-0").render())
    assert modelfile.parameters() == contents.parameters
    assert modelfile.messages() == contents.messages
    assert [command.value for command in modelfile.all("license")] == ["MIT", "text\n"]
    assert [command.value for command in modelfile.all("from")] == ["/blobs/sha256-0"]
    assert [
        (c.name, c.value) for c in modelfile.commands if c.name in ("template", "system", "requires")
    ] == [
        ("requires", "1.2.3"),
        ("template", "{{ messages }}"),
        ("system", "Be brief.\nVery."),
    ]
