"""Builds a tokenizer from a Hugging Face folder: tokenizer.json, else SentencePiece's tokenizer.model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend

from ...errors import TokenizerError
from ...models.checkpoint.library import LibraryErrors
from ...models.checkpoint.model_proto import BPE, read_model_proto
from ...models.checkpoint.token_types import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, byte_value
from ...models.checkpoint.tokenizer_files import (
    MAX_SIZE,
    AddedEntry,
    added_entries,
    read_bytes,
    read_json,
    token_text,
)
from . import backend as build
from .special import end_ids
from .tokenizer import Frame, Tokenizer
from .vocabulary import Spelling, Vocabulary


def tokenizer_from_folder(folder: Path, declared_ends: Iterable[int] = ()) -> Tokenizer:
    """Build the tokenizer of a model folder; declared_ends: eos ids of its other files."""
    config = read_json(folder / "tokenizer_config.json")
    if (folder / "tokenizer.json").is_file():
        return _from_json(folder, config, declared_ends)
    if (folder / "tokenizer.model").is_file():
        return _from_model(folder, config, declared_ends)
    raise TokenizerError(
        f"{folder} has no tokenizer", hint="it needs a tokenizer.json or a tokenizer.model beside the weights"
    )


def _from_json(folder: Path, config: Mapping[str, object], declared_ends: Iterable[int]) -> Tokenizer:
    path = folder / "tokenizer.json"
    with LibraryErrors():
        backend = Backend.from_file(str(path))
        backend.no_truncation()
        backend.no_padding()
        known = backend.get_vocab(with_added_tokens=True)
        missing = [token for token in added_entries(folder, config) if token.text not in known]
        if missing:
            backend.add_tokens([_library_token(token) for token in missing])
        vocabulary, drop_space = _read_vocabulary(backend)
        prefix, suffix = _template(backend)
    ids = vocabulary.ids
    bos = ids.get(token_text(config, "bos_token"), prefix[0] if prefix else None)
    eos = ids.get(token_text(config, "eos_token"))
    # a template of the file rules; the two switches count only where it adds nothing
    if not prefix and not suffix:
        prefix = (bos,) if config.get("add_bos_token") is True and bos is not None else ()
        suffix = (eos,) if config.get("add_eos_token") is True and eos is not None else ()
    ends = [*declared_ends, *(() if eos is None else (eos,))]
    frame = Frame(bos, eos, end_ids(vocabulary, ends), prefix, suffix, drop_space)
    return Tokenizer(backend, vocabulary, frame)


def _read_vocabulary(backend: Backend) -> tuple[Vocabulary, bool]:
    """Return the backend's tokens and whether its decoder drops the first space."""
    spelling, has_bytes, drop_space = _spelling(backend)
    by_text = backend.get_vocab(with_added_tokens=True)
    size = 1 + max(by_text.values(), default=-1)
    if size > MAX_SIZE:
        raise TokenizerError(f"tokenizer.json has a token of the impossible id {size - 1}")
    texts, types = [""] * size, bytearray(bytes((UNUSED,)) * size)
    for text, i in by_text.items():
        texts[i] = text
        types[i] = BYTE if has_bytes and byte_value(text) is not None else NORMAL
    for i, token in backend.get_added_tokens_decoder().items():
        types[i] = CONTROL if token.special else USER_DEFINED
    return Vocabulary(texts, bytes(types), spelling), drop_space


def _spelling(backend: Backend) -> tuple[Spelling, bool, bool]:
    """Return how the decoder reads tokens: (spelling, has byte tokens, drops the first space)."""
    steps = [step for part in (backend.decoder, backend.pre_tokenizer) for step in _steps(part)]
    kinds = {step.get("type") for step in steps}
    has_bytes = "ByteFallback" in kinds
    if "ByteLevel" in kinds:
        return "byte-level", has_bytes, False
    for step in _steps(backend.decoder):
        if step.get("type") == "WordPiece":
            return "wordpiece", has_bytes, True
        if step.get("type") == "Metaspace":
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            return "metaspace", has_bytes, scheme != "never"
        if step.get("type") == "Replace" and step.get("content") == " ":
            return "metaspace", has_bytes, "Strip" in kinds
    names = ", ".join(sorted(str(kind) for kind in kinds)) or "none"
    raise TokenizerError(
        f"tokenizer.json decodes in an unknown way ({names})",
        hint="supported: ByteLevel, Metaspace, ByteFallback and WordPiece",
    )


def _steps(part: decoders.Decoder | pre_tokenizers.PreTokenizer | None) -> list[dict[str, object]]:
    """Return the settings of a decoder or pre-tokenizer, a sequence's steps one by one."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    nested = state.get("decoders") or state.get("pretokenizers")
    return [step for step in nested if isinstance(step, dict)] if nested else [state]


def _template(backend: Backend) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that the file's post-processor puts before and after a text."""
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            return tuple(framed[:start]), tuple(framed[start + len(plain) :])
    return (), ()


def _from_model(folder: Path, config: Mapping[str, object], declared_ends: Iterable[int]) -> Tokenizer:
    model = read_model_proto(read_bytes(folder / "tokenizer.model"))
    if model.model_type != BPE or model.whitespace_as_suffix:
        raise TokenizerError(
            "tokenizer.model is not of SentencePiece's BPE type",
            hint="other types work only with a tokenizer.json beside it",
        )
    texts, types = model.texts, bytearray(model.types)
    for i, kind in enumerate(types):
        if kind == USER_DEFINED:
            # these are looked for in the text before its spaces become ▁
            texts[i] = texts[i].replace("▁", " ")
    added = added_entries(folder, config)
    for token in added:
        if token.id >= len(texts):
            gap = range(len(texts), token.id + 1)
            texts += [f"[UNUSED_{i}]" for i in gap]
            types += bytes((UNUSED,)) * len(gap)
        texts[token.id] = token.text
        types[token.id] = CONTROL if token.special else USER_DEFINED
    vocabulary = Vocabulary(texts, bytes(types), "metaspace")
    spacing = build.Spacing(model.add_dummy_prefix, model.remove_extra_whitespaces, model.charsmap)
    greedy = {token.text for token in added if token.rstrip}
    with LibraryErrors():
        scores = [*model.scores, *([0.0] * (len(texts) - len(model.scores)))]
        backend = build.sentencepiece(vocabulary, scores, spacing)
        build.add_special(backend, vocabulary, greedy.__contains__)
    size = len(vocabulary)
    bos = vocabulary.ids.get(
        token_text(config, "bos_token"), model.bos_id if 0 <= model.bos_id < size else None
    )
    eos = vocabulary.ids.get(
        token_text(config, "eos_token"), model.eos_id if 0 <= model.eos_id < size else None
    )
    ends = [*declared_ends, *(() if eos is None else (eos,))]
    frame = Frame(
        bos_id=bos,
        eos_id=eos,
        eos_ids=end_ids(vocabulary, ends),
        prefix=(bos,) if config.get("add_bos_token", True) and bos is not None else (),
        suffix=(eos,) if config.get("add_eos_token", False) and eos is not None else (),
        drop_space=spacing.add_prefix,
    )
    return Tokenizer(backend, vocabulary, frame)


def _library_token(token: AddedEntry) -> AddedToken:
    return AddedToken(
        token.text, normalized=False, special=token.special, lstrip=token.lstrip, rstrip=token.rstrip
    )
