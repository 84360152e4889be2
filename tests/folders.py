"""Writes the tokenizer files of Hugging Face folders: for tiny checkpoints, and from the vocabularies of GGUF files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny
from mull.models.checkpoint.token_types import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED

Json = dict[str, Any]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
AFTER = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern: str) -> Json:
    """Return the pre-tokenizer of models that bring an expression of their own."""
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, byte_level(use_regex=False)]}


def byte_level(*, use_regex: bool = True) -> Json:
    """Return GPT-2's own pre-tokenizer."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def digits(**options: object) -> Json:
    """Return StarCoder's pre-tokenizer."""
    one_by_one = {"type": "Digits", "individual_digits": True}
    return {"type": "Sequence", "pretokenizers": [one_by_one, byte_level()], **options}


def added(index: int, text: str, *, special: bool = True, **more: object) -> Json:
    """Return an added token as tokenizer.json lists it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    return {"id": index, "content": text, **flags, **more}


def template(token: str, index: int) -> Json:
    """Return a post-processor that puts one token before every text."""
    special = {"SpecialToken": {"id": token, "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    ids = {token: {"id": token, "ids": [index], "tokens": [token]}}
    return {
        "type": "TemplateProcessing",
        "single": [special, a],
        "pair": [special, a, b],
        "special_tokens": ids,
    }


def tokenizer_json(vocab: Mapping[str, int], merges: Sequence[str], **parts: Any) -> Json:
    """Return a byte-level tokenizer.json; parts replace its parts, `model` is merged into its model."""
    model = {"type": "BPE", "vocab": dict(vocab), "merges": list(merges), **parts.pop("model", {})}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    return {
        "version": "1.0",
        **empty,
        "added_tokens": [],
        "pre_tokenizer": byte_level(),
        "decoder": decoder,
        "model": model,
    } | parts


def add_tokenizer(folder: Path, vocab_size: int = tiny.VOCAB, **parts: Any) -> None:
    """Write the tokenizer that `tiny.add_tokenizer` puts into GGUF files."""
    special = ["<pad>", "<s>", "</s>"]
    tokens = special + [chr(33 + i) for i in range(94)] + ["Ġ", "Ċ", "th"]
    tokens += [f"<extra{i}>" for i in range(vocab_size - len(tokens))]
    vocab = {text: index for index, text in enumerate(tokens)}
    state = tokenizer_json(
        vocab,
        ["t h"],
        added_tokens=[added(index, text) for index, text in enumerate(special)],
        post_processor=template("<s>", 1),
        **parts,
    )
    (folder / "tokenizer.json").write_text(json.dumps(state))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**names, "tokenizer_class": "PreTrainedTokenizerFast"})
    )


def json_of(metadata: Mapping[str, Any], **parts: Any) -> Json:
    """Return the tokenizer.json of a byte-level GGUF vocabulary."""
    texts, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    vocab, extra = {}, []
    for index, (text, kind) in enumerate(zip(texts, types, strict=True)):
        if kind in (NORMAL, UNUSED):
            vocab[text] = index
        elif kind in (CONTROL, USER_DEFINED):
            extra.append(added(index, text, special=kind == CONTROL))
    merges = list(metadata["tokenizer.ggml.merges"])
    return tokenizer_json(vocab, merges, added_tokens=extra, **parts)


def proto_of(metadata: Mapping[str, Any], *, add_space: bool = True, skipped: int = 0) -> bytes:
    """Return the tokenizer.model of a SentencePiece GGUF vocabulary, without the last `skipped` tokens."""
    rows = zip(
        metadata["tokenizer.ggml.tokens"],
        metadata["tokenizer.ggml.scores"],
        metadata["tokenizer.ggml.token_type"],
        strict=True,
    )
    pieces = list(rows)[: -skipped or None]
    out = b"".join(_field(1, _piece(*row)) for row in pieces)
    trainer = _number(3, 2)  # BPE
    normalizer = _number(3, int(add_space)) + _number(4, 0)
    return out + _field(2, trainer) + _field(3, normalizer)


def _piece(text: str, score: float, kind: int) -> bytes:
    assert kind in (NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE)
    return _field(1, text.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", score) + _number(3, kind)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def pieces_json_of(metadata: Mapping[str, Any]) -> Json:
    """Return the tokenizer.json that transformers makes of a SentencePiece vocabulary: merges instead of scores."""
    from mull.runtime.tokenizer.backend import merges_by_score
    from mull.runtime.tokenizer.vocabulary import Vocabulary

    texts, types = metadata["tokenizer.ggml.tokens"], bytes(metadata["tokenizer.ggml.token_type"])
    vocabulary = Vocabulary(texts, types, "metaspace")
    merges = merges_by_score(vocabulary, metadata["tokenizer.ggml.scores"])
    steps = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    extra = [
        added(i, text, special=types[i] == CONTROL)
        for i, text in enumerate(texts)
        if types[i] in (CONTROL, USER_DEFINED)
    ]
    taken = {entry["content"] for entry in extra if entry["id"] > 258}
    return tokenizer_json(
        {text: i for i, text in enumerate(texts) if text not in taken},
        [],
        added_tokens=extra,
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        model={"merges": [list(pair) for pair in merges], "unk_token": "<unk>", "byte_fallback": True},
    )
