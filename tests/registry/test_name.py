"""Names parse, print, compare and refuse as Ollama's do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mull.errors import InvalidName
from mull.registry.name import ModelName


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("pocket", "registry.ollama.ai/library/pocket:latest", "pocket:latest"),
        ("qwen3:0.6b", "registry.ollama.ai/library/qwen3:0.6b", "qwen3:0.6b"),
        ("mike/mistral", "registry.ollama.ai/mike/mistral:latest", "mike/mistral:latest"),
        ("hf.co/Qwen/Qwen3-GGUF:Q8_0", "hf.co/Qwen/Qwen3-GGUF:Q8_0", "hf.co/Qwen/Qwen3-GGUF:Q8_0"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
        ("https://hf.co/a/b:c", "hf.co/a/b:c", "hf.co/a/b:c"),
        ("_x", "registry.ollama.ai/library/_x:latest", "_x:latest"),
        ("a..b", "registry.ollama.ai/library/a..b:latest", "a..b:latest"),
        ("m" * 80, f"registry.ollama.ai/library/{'m' * 80}:latest", f"{'m' * 80}:latest"),
    ],
)
def test_parse(text: str, full: str, short: str) -> None:
    name = ModelName.parse(text)
    assert name.full() == full
    assert name.short() == str(name) == short
    assert ModelName.parse(full) == name
    assert ModelName.parse(short) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "model is empty"),
        (":latest", "model is empty"),
        ("a:", "tag is empty"),
        ("a//b", "namespace is empty"),
        ("/a/b", "host is empty"),
        ("a/", "model is empty"),
        ("..", "must begin with"),
        ("../../etc/passwd", "must"),
        ("a/b/c/d", "must not contain '/'"),
        ("-a", "must begin with"),
        ("a b", "must not contain ' '"),
        ("user.name/model", "must not contain '.'"),
        ("a:b:c", "must not contain ':'"),
        ("m\x00", "must not contain"),
        ("modèle", "must not contain 'è'"),
        ("m" * 81, "81 characters, at most 80"),
        ("h" * 351 + "/n/m", "351 characters, at most 350"),
        ("a\\b", "must not contain"),
        ("m\nn", "must not contain"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidName, match="invalid model name") as caught:
        ModelName.parse(text)
    assert reason in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_case_does_not_distinguish() -> None:
    assert ModelName.parse("Pocket:LATEST") == ModelName.parse("pocket")
    assert len({ModelName.parse("A"), ModelName.parse("a")}) == 1
    assert ModelName.parse("a") != ModelName.parse("b")
    assert ModelName.parse("Pocket").short() == "Pocket:latest"


def test_the_constructor_checks_too() -> None:
    with pytest.raises(InvalidName):
        ModelName("registry.ollama.ai", "library", "..", "latest")


@given(st.text(alphabet="ab.:/_-\\ \x00~é@", max_size=30))
def test_no_part_leaves_its_folder(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    for part in name.parts():
        assert part not in ("", ".", "..")
        assert not set(part) & set("/\\\x00~ ")
        assert not part.startswith(".")
