"""How much of a file is asked for until its header is whole, and what is no header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf_files import raw_gguf, raw_pair, raw_string
from mull.errors import CheckpointError, CorruptFile, UnknownFormat
from mull.models.checkpoint import heads
from mull.models.checkpoint.gguf_header import header_bytes, read_header
from mull.models.checkpoint.heads import wanted
from mull.registry.bundled import POCKET

DATA = POCKET.path.read_bytes()
NAME = Path("model.gguf")


def test_every_beginning_of_a_header_asks_for_more_and_never_too_little() -> None:
    whole = header_bytes(NAME, DATA, len(DATA))
    assert 0 < whole < len(DATA)
    read_header(NAME, DATA)
    for length in range(8, whole, 97):
        assert header_bytes(NAME, DATA[:length], len(DATA)) > length
    assert header_bytes(NAME, DATA[:whole], len(DATA)) == whole


def test_a_file_that_ends_in_its_header_is_corrupt() -> None:
    with pytest.raises(CorruptFile):
        header_bytes(NAME, DATA[:100], 100)


def test_a_length_beyond_the_file_asks_for_nothing_more() -> None:
    broken = raw_gguf([raw_pair("a", 8, (1 << 25).to_bytes(8, "little") + b"x")])
    with pytest.raises(CorruptFile):
        wanted(NAME, broken, len(broken) + 1000)


def test_what_is_no_gguf_is_said_at_once() -> None:
    with pytest.raises(UnknownFormat):
        wanted(NAME, b"<html>" * 100, 1 << 30)


def test_a_header_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MOST", 1000)
    start = raw_gguf([raw_pair("a", 8, raw_string("x" * 5000))])[:200]
    with pytest.raises(CheckpointError, match="the header takes more than"):
        wanted(NAME, start, 1 << 40)


def test_safetensors_tell_the_length_of_their_header() -> None:
    header = json.dumps({
        "x.weight.quant_state.bitsandbytes__nf4": {"dtype": "U8", "shape": [40], "data_offsets": [100, 140]},
        "x.weight": {"dtype": "U8", "shape": [100], "data_offsets": [0, 100]},
        "y.weight.quant_state.bitsandbytes__nf4": {"dtype": "U8", "shape": [9], "data_offsets": [1, "z"]},
    }).encode()  # fmt: skip
    data = len(header).to_bytes(8, "little") + header
    size = len(data) + 140
    assert wanted(Path("a.safetensors"), data[:20], size).head == len(data)
    found = wanted(Path("a.safetensors"), data, size)
    assert (found.head, found.beside) == (len(data), ((len(data) + 100, len(data) + 140),))


@pytest.mark.parametrize("length", [0, 1 << 62, 10_000])
def test_safetensors_with_an_impossible_header_ask_for_no_more(length: int) -> None:
    start = length.to_bytes(8, "little") + b"{}"
    assert wanted(Path("a.safetensors"), start, 5000).head <= len(start)
