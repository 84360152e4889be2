"""Real vocabularies against llama.cpp's own expected ids."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.tokenizer.load import load_tokenizer
from mull.runtime.tokenizer.tokenizer import Tokenizer

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "tokenizers"
GOLDEN = sorted(path.with_suffix("") for path in FOLDER.glob("*.gguf.inp"))
FILES = pytest.mark.parametrize(
    "path",
    GOLDEN or [pytest.param(None, marks=pytest.mark.skip("shared/data is not beside this checkout"))],
    ids=lambda path: path.stem if path else "absent",
)
SLOW_START = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)


@cache
def tokenizer(path: Path) -> Tokenizer:
    """Open a GGUF file without tensors once for all tests."""
    with open_checkpoint(path) as checkpoint:
        return load_tokenizer(checkpoint)


def cases(path: Path) -> list[tuple[str, list[int]]]:
    """Read the texts and the ids that belong to them."""
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text("utf-8").split("\n")
    return [(text, [int(i) for i in line.split()]) for text, line in zip(texts, lines, strict=True)]


@FILES
def test_ids_equal_the_reference(path: Path):
    assert len(cases(path)) > 40
    for text, ids in cases(path):
        assert tokenizer(path).encode(text, special=False) == ids, repr(text)


@FILES
def test_text_comes_back(path: Path):
    if "bert" in path.name:
        pytest.skip("BERT's normaliser loses case and spaces")
    for text, ids in cases(path):
        # some vocabularies have no token for some control characters, and drop them
        known = "".join(char for char in text if char.isprintable() or char in "\n\t ")
        if known == text:
            assert tokenizer(path).decode(ids) == text


@FILES
def test_special_text_stays_text_unless_parsed(path: Path):
    subject = tokenizer(path)
    for end in subject.eos_ids:
        text = subject.token_text(end)
        assert subject.encode(text, special=False, parse_special=True) == [end]
        if subject.is_special(end):
            assert end not in subject.encode(text, special=False)
        assert subject.token_bytes(end) == text.encode()


@FILES
@SLOW_START
@given(data=st.data())
def test_stream_equals_decode(path: Path, data: st.DataObject):
    subject = tokenizer(path)
    ids = data.draw(st.lists(st.integers(0, subject.vocab_size + 3), max_size=30))
    skip = data.draw(st.booleans())
    stream = subject.stream(skip_special=skip)
    pieces = [stream.feed(i) for i in ids] + [stream.flush()]
    assert "".join(pieces) == subject.decode(ids, skip_special=skip)


@FILES
@SLOW_START
@given(text=st.text(max_size=60))
def test_any_text_streams_back_whole(path: Path, text: str):
    subject = tokenizer(path)
    ids = subject.encode(text, special=False, parse_special=True)
    stream = subject.stream()
    pieces = [stream.feed(i) for i in ids] + [stream.flush()]
    if "�" not in text and "�" not in "".join(pieces):
        assert all("�" not in piece for piece in pieces)
    assert "".join(pieces) == subject.decode(ids)


def test_llama3_rules(shared_data: Path):
    subject = tokenizer(shared_data / "tokenizers" / "ggml-vocab-llama-bpe.gguf")
    assert (subject.add_bos, subject.add_eos, subject.bos_id) == (True, False, 128000)
    assert subject.eos_ids == {128001, 128009}
    assert subject.encode("") == [128000]
    assert subject.encode("<|begin_of_text|>hi", parse_special=True) == [128000, 6151]
    assert len(subject.encode("<|begin_of_text|>hi")) > 3


def test_phi3_markup_swallows_the_space_after_it(shared_data: Path):
    subject = tokenizer(shared_data / "tokenizers" / "ggml-vocab-phi-3.gguf")
    close = subject.encode("<|user|>\nHi", special=False, parse_special=True)
    assert close == subject.encode("<|user|>Hi", special=False, parse_special=True)
    assert subject.encode("<s> Hi", special=False, parse_special=True) != subject.encode(
        "<s>Hi", special=False, parse_special=True
    )
