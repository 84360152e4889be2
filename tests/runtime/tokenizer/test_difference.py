"""Which differences of vocabularies matter."""

from __future__ import annotations

from pathlib import Path

import gguf_files
import vocabularies
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.tokenizer.difference import reading_difference, vocabulary_difference
from mull.runtime.tokenizer.load import load_tokenizer
from mull.runtime.tokenizer.tokenizer import Tokenizer


def tokenizer(metadata: dict[str, object], path: Path) -> Tokenizer:
    with open_checkpoint(gguf_files.write_gguf(path, metadata)) as checkpoint:
        return load_tokenizer(checkpoint)


def with_texts(metadata: dict[str, object], **texts: str) -> dict[str, object]:
    """Respell tokens by their numbers, `t97="x"`."""
    tokens = list(metadata["tokenizer.ggml.tokens"])  # type: ignore[call-overload]
    for key, text in texts.items():
        tokens[int(key[1:])] = text
    return {**metadata, "tokenizer.ggml.tokens": tokens}


def test_vocabularies(tmp_path: Path) -> None:
    plain = vocabularies.byte_level()
    a = tokenizer(plain, tmp_path / "a")
    assert vocabulary_difference(a, a) is None
    # What is markup or padding may be spelled otherwise.
    assert vocabulary_difference(a, tokenizer(with_texts(plain, t263="[PAD1]"), tmp_path / "b")) is None
    tokens = plain["tokenizer.ggml.tokens"]
    kinds = plain["tokenizer.ggml.token_type"]
    padded = {
        **plain,
        "tokenizer.ggml.tokens": [*tokens, "[PAD5]"],
        "tokenizer.ggml.token_type": [*kinds, vocabularies.UNUSED],
    }
    assert vocabulary_difference(a, tokenizer(padded, tmp_path / "c")) is None
    longer = {**padded, "tokenizer.ggml.token_type": [*kinds, vocabularies.NORMAL]}
    found = vocabulary_difference(a, tokenizer(longer, tmp_path / "d"))
    assert found == f"their vocabularies have {len(tokens)} and {len(tokens) + 1} tokens"
    swapped = with_texts(plain, t97=tokens[98], t98=tokens[97])
    found = vocabulary_difference(a, tokenizer(swapped, tmp_path / "e"))
    assert found == "token 97 is 'a' to the first and 'b' to the second"


def test_readings(tmp_path: Path) -> None:
    a = tokenizer(vocabularies.byte_level(), tmp_path / "a")
    assert reading_difference([97, 98], [97, 98], a) is None
    assert (
        reading_difference([97, 98], [97, 99], a)
        == "token 1 of the text is 'b' to the first and 'c' to the second"
    )
    assert reading_difference([97, 98], [97], a) == "the text has 2 and 1 tokens"
