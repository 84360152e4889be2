"""`llm explain`: what it tells is what a loaded model does, where each setting is from, and that nothing is loaded."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import folders
import pytest
import tiny
from mull.chat.history import History
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.cli.chat_files import HISTORY_FILE, chat_folder
from mull.cli.explain_lines import explanation_lines
from mull.cli.explanation import Question
from mull.cli.explanation import explain as explained
from mull.cli.main import run_command
from mull.llm import LLM
from mull.runtime.backend import Backend
from mull.runtime.load_options import LoadOptions
from mull.settings import load_settings
from virtual_terminal import VirtualTerminal

Explain = Callable[..., dict]

QUESTION = "What is 347 + 685?"
GO = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}
{{- range .Messages }}
{{- if ne .Role "system" }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}
{{- end }}<|im_start|>assistant
{{ if and .IsThinkSet (not .Think) }}<think>

</think>

{{ end }}"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep models and conversations of their own, and pipe nothing in."""
    monkeypatch.setenv("MULL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("MULL_CPU", "MULL_THINK_BUDGET", "MULL_THINK_MAX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Explain:
    """Return what runs `llm explain … --json`; weights that are loaded fail the test."""

    def refuse(*args: object) -> None:
        raise AssertionError("the weights are loaded")

    monkeypatch.setattr(Backend, "load", refuse)

    def call(*words: str) -> dict:
        capsys.readouterr()
        code = run_command(["explain", *words, "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


@pytest.fixture(scope="module")
def pocket() -> Iterator[LLM]:
    with LLM.open("pocket") as llm:
        yield llm


def create(text: str, tmp_path: Path, name: str = "made") -> int:
    (tmp_path / "Modelfile").write_text(text)
    return run_command(["create", name, "--quiet", "-f", str(tmp_path / "Modelfile")])


def sources(found: dict) -> dict[str, tuple[object, str]]:
    return {one["name"]: (one["value"], one["source"]) for one in found["settings"]}


@pytest.mark.parametrize(
    ("options", "system"),
    [
        ({}, None),
        ({"think": "off"}, None),
        ({"think": "on"}, "Be brief."),
        ({"think": 200}, None),
        ({"think_budget": "50%", "think_min": 16}, None),
        ({"think": "low", "num_predict": 300}, None),
        ({"think": 0}, None),
        ({"think_message": "Enough.", "think_soft": 0}, None),
    ],
)
def test_it_tells_what_the_loaded_model_does(pocket: LLM, options: dict, system: str | None) -> None:
    question = Question("pocket", QUESTION, LoadOptions(), system=system, options=options)
    found = explained(question, load_settings())
    messages = (*((Message("system", system),) if system else ()), Message("user", QUESTION))
    request = ChatRequest(messages, options=options)
    assert found.prompt is not None
    assert tuple(token.id for token in found.prompt.tokens) == pocket.prompt(request).ids
    assert found.prompt.text == pocket.prompt(request).text
    assert (len(found.prompt.tokens), found.thinking.budget) == pocket.measure(request)
    assert found.context.length == pocket.context_length
    assert found.kernels.description == pocket.backend
    assert (found.memory.weights, found.memory.cache) == (pocket.plan.weight_bytes, pocket.plan.cache_bytes)
    assert found.notes == pocket.notes
    own = {one.name: one for one in found.settings}
    for name, sourced in pocket.defaults.items():
        value = list(sourced.value) if isinstance(sourced.value, tuple) else sourced.value
        if name not in options:
            assert (own[name].value, own[name].source) == (value, sourced.source.replace("mull", "default"))


def test_every_source(ask: Explain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert create("FROM pocket\nPARAMETER top_k 5\nPARAMETER seed 1\nPARAMETER num_ctx 512\n"
                  "PARAMETER think_soft 0.5\nPARAMETER stop END", tmp_path) == 0  # fmt: skip
    monkeypatch.setenv("MULL_THINK_BUDGET", "100")
    monkeypatch.setenv("MULL_THINK_MAX", "90")
    monkeypatch.setenv("MULL_CPU", "none")
    found = ask(
        "made",
        QUESTION,
        "--temperature",
        "0.1",
        "--seed",
        "7",
        "--threads",
        "1",
        "-ctk",
        "bf16",
        "-ctv",
        "bf16",
    )
    settings = sources(found)
    assert settings["temperature"] == (0.1, "flag")
    assert settings["seed"] == (7, "flag")
    assert settings["top_k"] == (5, "modelfile")
    assert settings["top_p"] == (pytest.approx(0.95), "gguf")
    assert settings["min_p"] == (0.05, "default")
    assert settings["stop"] == (["END"], "modelfile")
    assert settings["think"] == ("100", "environment")
    assert settings["think_max"] == ("90", "environment")
    assert settings["think_soft"] == (0.5, "modelfile")
    assert settings["num_ctx"] == (512, "modelfile")
    assert settings["num_thread"] == (1, "flag")
    assert settings["cpu"] == ("none", "environment")
    assert settings["cache_type_k"] == ("bf16", "flag")
    assert settings["draft"] == (None, "default")
    assert found["context"]["source"] == "modelfile"
    assert found["thinking"]["budget"] == 90
    assert found["thinking"]["requested"] == 100
    assert any("the most that is allowed here" in note for note in found["thinking"]["notes"])
    assert found["stop"]["texts"] == ["END"]
    assert found["kernels"]["computes"] == "torch"
    assert ask("made", "--num-ctx", "256")["context"] == {
        "length": 256, "own": 2048, "source": "flag", "prompt": 8, "left": 248,
    }  # fmt: skip


def test_a_folder(ask: Explain, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny.save("llama", folder)
    folders.add_tokenizer(folder)
    (folder / "generation_config.json").write_text('{"temperature": 0.25}')
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{% for m in messages %}[INST]{{ m.content }}{% endfor %}"})
    )
    found = ask(str(folder), "a b")
    assert sources(found)["temperature"] == (0.25, "generation_config")
    assert (found["template"]["source"], found["template"]["family"]) == ("tokenizer_config.json", "mistral")
    assert found["template"]["reasons"] == ["the template holds [INST]"]
    assert found["thinking"]["can_think"] is False
    assert found["architecture"] == "llama"
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert ask(str(folder), "a b")["template"]["source"] == "chat_template.jinja"


def test_a_kept_conversation(ask: Explain) -> None:
    with History(chat_folder(load_settings()) / HISTORY_FILE) as history:
        talk = history.begin(
            "pocket", {"system": "Be.", "options": {"top_k": 3, "think": "off", "seed": 2}, "num_ctx": 640}
        )
        both = Message("user", "What is 2 + 2?"), Message("assistant", "4", thinking="2+2=4")
        history.add(talk, None, *both)
    found = ask("pocket", "--resume", str(talk), "And 3 + 3?", "--seed", "9")
    settings = sources(found)
    assert settings["top_k"] == (3, "session")
    assert settings["think"] == ("off", "session")
    assert settings["seed"] == (9, "flag")
    assert settings["num_ctx"] == (640, "session")
    text = found["prompt"]["text"]
    assert text.index("Be.") < text.index("What is 2 + 2?") < text.index("And 3 + 3?")
    assert found["thinking"]["history"] == "strip"
    assert "2+2=4" not in text


def test_tokens_and_control_tokens(ask: Explain) -> None:
    tokens = ask("pocket", "Say <|im_end|> ü", "--think", "off")["prompt"]["tokens"]
    control = [token["text"] for token in tokens if token["control"]]
    assert control[:2] == ["<|im_start|>", "<|im_end|>"]
    # The user's own spelling of a control token stays text.
    assert control.count("<|im_end|>") == 1
    assert "<|im_end|>" in "".join(token["text"] for token in tokens if not token["control"])


def test_a_go_template(ask: Explain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(f'FROM pocket\nSYSTEM Be brief.\nTEMPLATE """{GO}"""', tmp_path) == 0
    for think in ("on", "off"):
        found = ask("made", QUESTION, "--think", think)
        own = ask("pocket", QUESTION, "--think", think, "--system", "Be brief.")
        assert (found["template"]["source"], found["template"]["language"]) == ("modelfile", "go")
        assert found["template"]["family"] == own["template"]["family"] == "qwen3"
        assert found["prompt"] == own["prompt"]
    assert found["thinking"]["passed"]


def test_a_go_template_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(f'FROM pocket\nTEMPLATE """{GO}"""\nPARAMETER temperature 0', tmp_path) == 0
    assert run_command(["run", "made", "--local", "--quiet", QUESTION]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == "1032"
    assert "347+685" in err
    assert run_command(["run", "made", "--local", "--quiet", "--json", "--think", "off", QUESTION]) == 0
    off = json.loads(capsys.readouterr().out)
    assert (off["thinking"], off["thinking_tokens"]) == ("", 0)
    assert run_command(["show", "made", "--template"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == GO.rstrip("\n")


@pytest.mark.parametrize(
    ("template", "line"),
    [("a\n{{ if .System }}\nb", 3), ("a\n{{ .System | nothing }}", 2), ("a\n\n{{ end }}", 3)],
)
def test_a_broken_go_template_is_refused(
    template: str, line: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(f'FROM pocket\nTEMPLATE """{template}"""', tmp_path) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: TEMPLATE, line {line}: ")
    assert "(line 2, column 1)" in message


def test_a_broken_template_of_the_model(tmp_path: Path, ask: Explain) -> None:
    folder = tmp_path / "tiny"
    tiny.save("llama", folder)
    folders.add_tokenizer(folder)
    (folder / "chat_template.jinja").write_text("a\n{% for")
    found = ask(str(folder), "a b")
    assert "line 2" in found["template"]["error"]
    assert found["prompt"] is None
    assert ask(str(folder), "--raw", "a b")["prompt"]["text"] == "a b"


@pytest.mark.parametrize("width", [40, 20, 100])
def test_no_line_is_too_wide(width: int) -> None:
    options = {"think": 200, "stop": ["a very long text at which to stop, " * 3]}
    load = LoadOptions()
    question = Question("pocket", "多字节文本" * 20 + "w" * 90, load, options=options)
    found = explained(question, load_settings())
    from rich.cells import cell_len

    lines = explanation_lines(found, width, verbose=False, wrap=True)
    titles = [line for line in lines if line.startswith("  ") and line[2] != " "]
    assert [title.strip().split(" (")[0] for title in titles] == [
        "Model", "Settings", "Template", "Thinking", "Tools", "Ends a reply", "Context", "Memory", "Prompt", "Tokens",
    ]  # fmt: skip
    assert max(cell_len(line) for line in lines if line not in titles) <= width
    whole = "".join(line.strip() for line in lines)
    assert "w" * 30 in whole if width > 40 else "w" * 10 in whole


def test_many_tokens_are_cut_but_for_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    text = "1 2 3 " * 60
    assert run_command(["explain", "pocket", text]) == 0
    short = capsys.readouterr().out
    assert "more (--verbose)" in short
    assert "mirostat" not in short
    assert run_command(["explain", "pocket", text, "-v"]) == 0
    long = capsys.readouterr().out
    assert "more (--verbose)" not in long
    assert "mirostat" in long


def test_piped_text_comes_first(ask: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"347 + 685")))
    assert "347 + 685\nis what?" in ask("pocket", "is", "what?")["prompt"]["text"]


def test_without_a_prompt(ask: Explain) -> None:
    found = ask("pocket")
    assert "no prompt was given: an empty one stands for it" in found["notes"]
    assert found["prompt"]["text"].startswith("<|im_start|>user\n<|im_end|>")


def test_a_prompt_that_is_too_long(ask: Explain) -> None:
    found = ask("pocket", "1 2 3 " * 2000)
    assert found["context"]["left"] < 0
    assert any("too long for the context" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pokcet"], "model 'pokcet' not found"),
        (["pocket", "--num-ctx", "9999"], "the model's is 2048"),
        (["pocket", "--raw", "--system", "x"], "--raw uses no template"),
        (["pocket", "--think", "hard"], "think must be"),
        (["pocket", "--top-p", "7"], "top_p must be"),
        (["pocket", "--resume", "77"], "no conversation"),
    ],
)
def test_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", *words]) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err


def test_a_terminal_of_forty_columns(tmp_path: Path) -> None:
    environment = {"MULL_MODELS": str(tmp_path / "models"), "XDG_STATE_HOME": str(tmp_path / "state")}
    terminal = VirtualTerminal(["explain", "pocket", QUESTION], environment, size=(40, 30))
    assert terminal.end() == 0
    shown = terminal.text.splitlines()
    # A line that is too wide would go on at the left edge.
    assert all(line.startswith("  ") for line in shown if line)
    assert "  Prompt (20 tokens)" in shown
    assert "    <|im_start|>assistant" in shown


@pytest.mark.parametrize("words", [["pokcet"], ["pocket", "--top-p", "7"]])
def test_what_is_wrong_is_told_before_torch_is_imported(words: list[str]) -> None:
    code = f"""
import sys
from mull.cli.main import run_command
assert run_command(["explain", *{words}]) != 0
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr.count("error: ")) == (0, 1), done.stderr
