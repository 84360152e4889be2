"""Builds a tokenizer from the metadata of a GGUF file, with llama.cpp's defaults where the file is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Tokenizer as Backend

from ...errors import TokenizerError
from ...models.checkpoint.library import LibraryErrors
from ...models.checkpoint.pretokenizers import pre_tokenizer
from . import backend as build
from .fields import Fields
from .special import end_ids, mark_control
from .tokenizer import Frame, Tokenizer
from .vocabulary import Spelling, Vocabulary

KINDS: dict[str, Spelling] = {
    "gpt2": "byte-level",
    "gemma4": "metaspace",
    "llama": "metaspace",
    "bert": "metaspace",
}
_KIND_NAMES = "gpt2 (byte-level BPE), llama (SentencePiece BPE), gemma4, bert (WordPiece)"


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What holds where the file says nothing."""

    bos: int | None = None
    eos: int | None = None
    add_bos: bool = False
    closes: str = "eos"
    add_end: bool = False
    drop_space: bool = False


def tokenizer_from_gguf(metadata: Mapping[str, object]) -> Tokenizer:
    """Build what `tokenizer.ggml.*` describes; raise TokenizerError if it is absent, broken or unknown."""
    fields = Fields(metadata)
    kind = fields.text("model")
    if not kind:
        raise TokenizerError("the file has no tokenizer", hint="convert the model again with its vocabulary")
    if kind not in KINDS:
        raise TokenizerError(f"unknown kind of tokenizer '{kind}'", hint=f"supported: {_KIND_NAMES}")
    vocabulary = _vocabulary(fields, kind)
    with LibraryErrors():
        backend, defaults = _build(fields, kind, vocabulary)
        build.add_special(backend, vocabulary, lambda text: _takes_space(metadata, text))
    return Tokenizer(backend, vocabulary, _frame(fields, vocabulary, defaults))


def _vocabulary(fields: Fields, kind: str) -> Vocabulary:
    texts = fields.texts("tokens")
    if "" in texts:
        texts = [text or f"[EMPTY_{i}]" for i, text in enumerate(texts)]
    if not texts:
        raise TokenizerError("the vocabulary is empty")
    types = fields.types(len(texts)) or build.guess_types(texts)
    spelling: Spelling = KINDS[kind]
    if kind == "gpt2" and pre_tokenizer(fields.text("pre")).raw:
        spelling = "metaspace"
    return mark_control(Vocabulary(texts, types, spelling))


def _build(fields: Fields, kind: str, vocabulary: Vocabulary) -> tuple[Backend, _Defaults]:
    size = len(vocabulary)
    if kind == "llama":
        scores = fields.floats("scores", size) or [float(-i) for i in range(size)]
        spacing = build.Spacing(
            add_prefix=fields.flag("add_space_prefix", True),
            collapse=fields.flag("remove_extra_whitespaces", False),
        )
        backend = build.sentencepiece(vocabulary, scores, spacing)
        return backend, _Defaults(bos=1, eos=2, add_bos=True, drop_space=spacing.add_prefix)
    if kind == "bert":
        unknown = fields.token("unknown", size, 100)
        if unknown is None:
            raise TokenizerError("the vocabulary names no unknown token")
        lowercase = fields.flag("normalizer.lowercase", True)
        strip_accents = fields.flag("normalizer.strip_accents", lowercase)
        backend = build.wordpiece(vocabulary, unknown, lowercase=lowercase, strip_accents=strip_accents)
        start = fields.token("cls", size, 101)
        return backend, _Defaults(bos=start, add_bos=True, closes="seperator", add_end=True, drop_space=True)
    rules = pre_tokenizer("gemma4" if kind == "gemma4" else fields.text("pre"))
    backend = build.byte_level(vocabulary, fields.texts("merges"), rules)
    return backend, _Defaults(add_bos=rules.add_bos)


def _frame(fields: Fields, vocabulary: Vocabulary, defaults: _Defaults) -> Frame:
    size = len(vocabulary)
    bos = fields.token("bos", size, defaults.bos)
    eos = fields.token("eos", size, defaults.eos)
    end = eos if defaults.closes == "eos" else fields.token(defaults.closes, size, 102)
    # Gemma 4's files say false and the model fails without
    gemma4 = "gemma4" in (fields.text("model"), fields.text("pre"))
    add_bos = gemma4 or fields.flag("add_bos_token", defaults.add_bos)
    add_end = fields.flag("add_eos_token", defaults.add_end)
    declared = (eos, fields.token("eot", size), fields.token("eom", size))
    return Frame(
        bos_id=bos,
        eos_id=eos,
        eos_ids=end_ids(vocabulary, (i for i in declared if i is not None)),
        prefix=(bos,) if add_bos and bos is not None else (),
        suffix=(end,) if add_end and end is not None else (),
        drop_space=defaults.drop_space,
    )


def _takes_space(metadata: Mapping[str, object], text: str) -> bool:
    """Whether white space after a token belongs to it: Phi-3's markup, which only the model's name tells."""
    name = str(metadata.get("general.name", "")).lower()
    return ("phi-3" in name or "phi3" in name) and text not in ("<unk>", "<s>", "<|endoftext|>")
