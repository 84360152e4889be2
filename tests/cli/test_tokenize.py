"""`llm tokenize`: texts to ids and back, with nothing but a vocabulary."""

from __future__ import annotations

import functools
import io
import json
import sys
from pathlib import Path

import pytest
from gguf_files import write_gguf
from mull.cli import tokenize
from mull.cli.main import run_command
from mull.errors import InvalidRequest


def byte_letters() -> list[str]:
    """Return the letters that byte-level vocabularies write for the bytes 0 to 255."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(i) if i in kept else chr(next(moved)) for i in range(256)]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Return a GGUF without tensors, of an architecture that cannot be run."""
    tokens = [*byte_letters(), "ab", "<s>", "</s>", "<|sep|>"]
    path = write_gguf(
        tmp_path / "vocab.gguf",
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [1] * 257 + [3] * 3,
            "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.bos_token_id": 257,
            "tokenizer.ggml.eos_token_id": 258,
            "tokenizer.ggml.add_bos_token": True,
        },
        architecture="abacus",
    )
    return str(path)


def ids_of(capsys: pytest.CaptureFixture[str], *args: object, **options: object) -> list[int]:
    """Run the command and read its JSON."""
    tokenize.command(*args, as_json=True, **options)  # type: ignore[arg-type]
    return list(json.loads(capsys.readouterr().out))


def test_special_tokens_are_as_asked(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["ab<|sep|>"]
    plain = [256, *b"<|sep|>"]
    assert ids_of(capsys, model, text) == [257, *plain]
    assert ids_of(capsys, model, text, no_special=True) == plain
    assert ids_of(capsys, model, text, no_special=True, parse_special=True) == [256, 259]


def test_empty_text_is_an_empty_list(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ids_of(capsys, model, [""], no_special=True) == []


def test_lines_show_each_piece(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenize.command(model, ["abä\n\x1b"])
    assert capsys.readouterr().out.splitlines() == [
        "   257 -> '<s>'",
        "   256 -> 'ab'",
        r"   195 -> '\xc3'",
        r"   164 -> '\xa4'",
        r"    10 -> '\n'",
        r"    27 -> '\x1b'",
    ]


def test_a_file_is_read_byte_for_byte(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = b"\xef\xbb\xbfa\r\nb\rc\n\x00\n"
    (tmp_path / "text").write_bytes(data)
    assert ids_of(capsys, model, None, tmp_path / "text", no_special=True) == list(data)
    (tmp_path / "text").write_bytes(b"ab\xc3")
    with pytest.raises(InvalidRequest, match=r"not UTF-8 text \(at byte 2\)"):
        tokenize.command(model, None, tmp_path / "text")


def test_standard_input_is_the_text_when_there_is_no_other(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\r\n")))
    assert ids_of(capsys, model, no_special=True) == list(b"x\r\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(InvalidRequest, match="no text"):
        tokenize.command(model)


def test_count(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenize.command(model, ["abc"], count=True)
    assert capsys.readouterr().out == "3\n"


@pytest.mark.parametrize("words", [["256", "195", "164"], ["[256, 195, 164]"], ["256,195 164\n"]])
def test_decode(model: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    tokenize.command(model, words, decode=True)
    assert capsys.readouterr().out == "abä\n"
    tokenize.command(model, words, decode=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == "abä"


def test_decode_shows_control_tokens_unless_asked_not_to(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenize.command(model, ["257 256 259"], decode=True)
    assert capsys.readouterr().out == "<s>ab<|sep|>\n"
    tokenize.command(model, ["257 256 259"], decode=True, no_special=True)
    assert capsys.readouterr().out == "ab\n"


def test_the_command_line(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tokenize", model, "ab", "--no-special", "--json"]) == 0
    assert capsys.readouterr().out == "[256]\n"
    assert run_command(["tokenize", model, "", "--no-special", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    (tmp_path / "text").write_bytes(b"ab\r\n")
    assert run_command(["tokenize", model, "--file", str(tmp_path / "text"), "--count"]) == 0
    assert capsys.readouterr().out == "4\n"
    assert run_command(["tokenize", model, "--decode", "256", "195", "164"]) == 0
    assert capsys.readouterr().out == "abä\n"


@pytest.mark.parametrize("word", ["x", "1.5", "-1", "260", "1" * 30])
def test_decode_refuses_what_is_no_token(model: str, word: str) -> None:
    with pytest.raises(InvalidRequest):
        tokenize.command(model, [word], decode=True)


def test_ambiguous_texts_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="2 texts"):
        tokenize.command(model, ["a", "b"])
    with pytest.raises(InvalidRequest, match="not both"):
        tokenize.command(model, ["a"], tmp_path / "file")


@pytest.mark.parametrize("name", ["llama-bpe", "llama-spm", "bert-bge"])
def test_golden_ids(
    name: str,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tokenize, "open_tokenizer", functools.cache(tokenize.open_tokenizer))
    stem = shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{stem}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    golden = [list(map(int, line.split())) for line in Path(f"{stem}.out").read_text().splitlines()]
    assert len(golden) > 30
    assert texts.pop() == ""
    for text, ids in zip(texts, golden, strict=True):
        (tmp_path / "text").write_bytes(text.encode())
        assert ids_of(capsys, str(stem), None, tmp_path / "text", no_special=True) == ids
