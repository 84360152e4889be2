"""Builds `tokenizers` objects from vocabularies: byte-level BPE, SentencePiece BPE, WordPiece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from ...errors import TokenizerError
from ...models.checkpoint.library import LibraryErrors
from ...models.checkpoint.pretokenizers import PreTokenizer
from ...models.checkpoint.token_types import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, byte_value
from .vocabulary import Vocabulary

Merge = tuple[str, str]

# no vocabulary has longer tokens; a broken file may, and their splits would take quadratic memory
_LONGEST_TOKEN = 512

# A word that is longer is unknown as a whole: WordPiece takes time with the cube of a word's length.
MAX_WORD = 1000


@dataclass(frozen=True, slots=True)
class Spacing:
    """What SentencePiece does to spaces: put one before the text, collapse and trim runs of them."""

    add_prefix: bool = True
    collapse: bool = False
    charsmap: bytes = b""


def byte_level(vocabulary: Vocabulary, merges: Sequence[str], rules: PreTokenizer) -> Tokenizer:
    """Build byte-level BPE; merges are lines of two tokens, in the order of their rank."""
    ids = vocabulary.ids
    splits: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(Regex(regex), "isolated") for regex in rules.regexes
    ]
    model = _merging(ids, merges, byte_fallback=rules.raw, ignore_merges=rules.whole_words)
    normalizer: normalizers.Normalizer | None = None
    if rules.raw:
        normalizer = normalizers.Replace(" ", "▁")
    else:
        splits.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    backend = _assemble(model, normalizer, pre_tokenizers.Sequence(splits))
    if rules.whole_newlines:
        # runs of newlines are tokens that no merge builds
        runs = [text for text in ids if text and not text.strip("\n")]
        backend.add_tokens([AddedToken(text, normalized=False, special=False) for text in runs])
    return backend


def _merging(
    ids: dict[str, int], merges: Sequence[str], *, byte_fallback: bool, ignore_merges: bool
) -> models.BPE:
    """Build BPE of the merges whose two tokens, and the one that they make, are in the vocabulary."""

    def build(pairs: list[Merge]) -> models.BPE:
        return models.BPE(ids, pairs, byte_fallback=byte_fallback, ignore_merges=ignore_merges)

    halves = map(str.partition, merges, repeat(" "))
    try:
        # Nearly always they all are, and looking takes longer than building. The library refuses others.
        with LibraryErrors():
            return build([(left, right) for left, _, right in halves])
    except TokenizerError:
        halves = map(str.partition, merges, repeat(" "))
        return build([
            (left, right)
            for left, _, right in halves
            if left in ids and right in ids and left + right in ids
        ])  # fmt: skip


def sentencepiece(vocabulary: Vocabulary, scores: Sequence[float], spacing: Spacing) -> Tokenizer:
    """Build SentencePiece's BPE: a pair merges if it is a token, the one of the highest score first."""
    unknown = next(iter(vocabulary.of_type(UNKNOWN)), None)
    has_bytes = any(True for _ in vocabulary.of_type(BYTE))
    model = models.BPE(
        vocabulary.ids,
        merges_by_score(vocabulary, scores),
        unk_token=None if unknown is None else vocabulary.texts[unknown],
        fuse_unk=True,
        byte_fallback=has_bytes,
    )
    steps: list[normalizers.Normalizer] = []
    if spacing.charsmap:
        steps.append(normalizers.Precompiled(spacing.charsmap))
    steps.append(normalizers.Replace(" ", "▁"))
    if spacing.collapse:
        steps += [normalizers.Replace(Regex(r"\A▁+|▁+\z"), ""), normalizers.Replace(Regex("▁{2,}"), "▁")]
    if spacing.add_prefix:
        steps.append(normalizers.Prepend("▁"))
    return _assemble(model, normalizers.Sequence(steps), None)


def merges_by_score(vocabulary: Vocabulary, scores: Sequence[float]) -> list[Merge]:
    """Return every way to make a normal token of two others, best score first.

    Among the ways to one token the longest left part comes first: in runs, that is the leftmost pair.
    """
    normal = {vocabulary.texts[i]: i for i in vocabulary.of_type(NORMAL)}
    ranked: list[tuple[float, int, int, str, str]] = []
    for text, i in normal.items():
        if len(text) > _LONGEST_TOKEN:
            continue
        for cut in range(len(text) - 1, 0, -1):
            if (left := text[:cut]) in normal and (right := text[cut:]) in normal:
                ranked.append((-scores[i], i, -cut, left, right))
    ranked.sort()
    return [(left, right) for *_, left, right in ranked]


def wordpiece(vocabulary: Vocabulary, unknown: int, *, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """Build WordPiece from GGUF's spelling: ▁ begins a word, tokens without it go on."""
    texts: dict[str, int] = {}
    for i, text in enumerate(vocabulary.texts):
        if vocabulary.token_type(i) != NORMAL:
            texts[text] = i
        else:
            texts[text[1:] if text.startswith("▁") else "##" + text] = i
    unk = vocabulary.texts[unknown]
    model = models.WordPiece(texts, unk_token=unk, max_input_chars_per_word=MAX_WORD)
    normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    return _assemble(model, normalizer, pre_tokenizers.BertPreTokenizer())


def add_special(
    backend: Tokenizer, vocabulary: Vocabulary, takes_space: Callable[[str], bool] = lambda text: False
) -> None:
    """Teach the backend its special tokens; takes_space: which of them swallow the white space after them."""
    for types, special in (((UNKNOWN, CONTROL), True), ((USER_DEFINED,), False)):
        tokens = [
            AddedToken(text, normalized=False, special=special, rstrip=takes_space(text))
            for i in vocabulary.of_type(*types)
            if (text := vocabulary.texts[i])
        ]
        if tokens:
            backend.add_tokens(tokens)


def guess_types(texts: Sequence[str]) -> bytes:
    """Return the types of a vocabulary that lists none."""
    types = bytearray(NORMAL for _ in texts)
    for i, text in enumerate(texts):
        if byte_value(text) is not None:
            types[i] = BYTE
        elif text in ("<unk>", "[UNK]"):
            types[i] = UNKNOWN
        elif text in ("<s>", "</s>", "<pad>", "[CLS]", "[SEP]", "[PAD]", "[MASK]"):
            types[i] = CONTROL
    return bytes(types)


def _assemble(
    model: models.Model,
    normalizer: normalizers.Normalizer | None,
    splitter: pre_tokenizers.PreTokenizer | None,
) -> Tokenizer:
    backend = Tokenizer(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    if splitter is not None:
        backend.pre_tokenizer = splitter
    return backend
