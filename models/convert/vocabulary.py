"""The tokens of a folder's tokenizer as GGUF lists them: texts, types, scores and merges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import TokenizerError
from ..checkpoint.gguf_values import Typed, ValueType
from ..checkpoint.model_proto import BPE, ModelProto, read_model_proto
from ..checkpoint.token_types import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, byte_value
from ..checkpoint.tokenizer_files import MAX_SIZE, AddedEntry, added_entries, read_bytes
from .splitting import pre_name, steps_of

# llama.cpp's converter's own numbers, for tokens that no merge makes.
_ADDED_SCORE, _ABSENT_SCORE = -1000.0, -10000.0
# Added tokens that are markup by their looks, though files often call them ordinary.
_MARKUP = re.compile(r"<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<｜.*｜>|<unused.*>", re.DOTALL)
# Longer tokens are runs of one character, which any two halves make.
_LONGEST = 512


@dataclass(slots=True)
class Tokens:
    """A vocabulary by id; an id without a text is a gap. kind: `tokenizer.ggml.model`."""

    kind: str
    texts: list[str | None]
    types: bytearray
    scores: list[float]
    merges: list[str] = field(default_factory=list)
    pre: str = "default"
    add_space: bool | None = None
    collapse: bool = False
    greedy: bool = False

    def put(self, index: int, text: str, kind: int, score: float) -> None:
        """Set a token, growing the vocabulary to reach it."""
        missing = index + 1 - len(self.texts)
        if missing > 0:
            self.texts += [None] * missing
            self.types += bytes((UNUSED,)) * missing
            self.scores += [_ABSENT_SCORE] * missing
        self.texts[index], self.types[index], self.scores[index] = text, kind, score

    def ids(self) -> dict[str, int]:
        """Return the id of every text."""
        return {text: index for index, text in enumerate(self.texts) if text is not None}


def read_tokens(folder: Path, state: Mapping[str, object], config: Mapping[str, object], size: int) -> Tokens:
    """Read a folder's vocabulary, `size` tokens of it; raise TokenizerError if GGUF has no kind for it.

    state: the parsed tokenizer.json, empty where there is none. config: of tokenizer_config.json.
    """
    has_proto = (folder / "tokenizer.model").is_file()
    if not state and not has_proto:
        raise TokenizerError(
            f"{folder} has no tokenizer",
            hint="it needs a tokenizer.json or a tokenizer.model beside the weights",
        )
    added = [*_added_in(state), *added_entries(folder, config)]
    if state and _is_byte_level(state):
        tokens = _from_merges(state)
        tokens.pre = pre_name(state)
    else:
        texts = {entry.text for entry in added}
        tokens = _from_proto(folder) if has_proto else _from_pieces(state, texts)
        if has_proto and state and _has_grown(tokens, _model(state)[0].keys() - texts):
            tokens = _from_pieces(state, texts)
        if state:
            tokens.add_space = _prepends(state)
            tokens.collapse = False
    _fit(tokens, size, {entry.text for entry in added})
    _add(tokens, added, size)
    return _padded(tokens, size)


def token_keys(tokens: Tokens) -> dict[str, Typed]:
    """Return the vocabulary under `tokenizer.ggml.*`."""
    strings = ValueType.STRING
    keys = {
        "model": Typed(tokens.kind, strings),
        "pre": Typed(tokens.pre, strings),
        "tokens": Typed([text or "" for text in tokens.texts], ValueType.ARRAY, strings),
        "token_type": Typed(list(tokens.types), ValueType.ARRAY, ValueType.INT32),
    }
    if tokens.kind == "gpt2":
        keys["merges"] = Typed(tokens.merges, ValueType.ARRAY, strings)
    else:
        keys["scores"] = Typed(tokens.scores, ValueType.ARRAY, ValueType.FLOAT32)
        keys["add_space_prefix"] = Typed(tokens.add_space is not False, ValueType.BOOL)
        if tokens.collapse:
            keys["remove_extra_whitespaces"] = Typed(True, ValueType.BOOL)
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def _is_byte_level(state: Mapping[str, object]) -> bool:
    model = state.get("model")
    if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, Mapping) else None
        raise TokenizerError(
            f"tokenizer.json is of the kind '{kind}', which is not converted",
            hint="byte-level BPE and SentencePiece's BPE are",
        )
    steps = [*steps_of(state.get("pre_tokenizer")), *steps_of(state.get("decoder"))]
    return any(step.get("type") == "ByteLevel" for step in steps)


def _model(state: Mapping[str, object]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and the merges of a tokenizer.json."""
    model = state.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    merges = model.get("merges") if isinstance(model, Mapping) else None
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise TokenizerError("tokenizer.json has no vocabulary and merges")
    if not all(type(index) is int and 0 <= index < MAX_SIZE for index in vocabulary.values()):
        raise TokenizerError("tokenizer.json has a token without a usable id")
    pairs = [line.split(" ", 1) if isinstance(line, str) else line for line in merges]
    if not all(isinstance(pair, list) and list(map(type, pair)) == [str, str] for pair in pairs):
        raise TokenizerError("tokenizer.json has a merge that is not of two tokens")
    return vocabulary, [(pair[0], pair[1]) for pair in pairs]


def _from_merges(state: Mapping[str, object]) -> Tokens:
    vocabulary, merges = _model(state)
    tokens = Tokens("gpt2", [], bytearray(), [])
    for text, index in sorted(vocabulary.items(), key=lambda item: item[1]):
        tokens.put(index, text, NORMAL, 0.0)
    # a space would end the left half
    tokens.merges = [" ".join(half.replace(" ", "Ġ") for half in pair) for pair in merges]
    return tokens


def _from_proto(folder: Path) -> Tokens:
    model: ModelProto = read_model_proto(read_bytes(folder / "tokenizer.model"))
    if model.model_type != BPE or model.whitespace_as_suffix:
        raise TokenizerError("tokenizer.model is not of SentencePiece's BPE type, which GGUF is written for")
    texts: list[str | None] = [
        text.replace("▁", " ") if kind == USER_DEFINED else text
        for text, kind in zip(model.texts, model.types, strict=True)
    ]
    tokens = Tokens("llama", texts, bytearray(model.types), list(model.scores))
    tokens.add_space, tokens.collapse = model.add_dummy_prefix, model.remove_extra_whitespaces
    return tokens


def _has_grown(tokens: Tokens, later: Iterable[str]) -> bool:
    """Whether a tokenizer.json holds tokens that the older tokenizer.model beside it lacks."""
    known = {text.replace("▁", " ") for text in tokens.ids()}
    return any(text.replace("▁", " ") not in known for text in later)


def _from_pieces(state: Mapping[str, object], added: set[str]) -> Tokens:
    """Read a tokenizer.json that was made from a SentencePiece model: the order of its merges gives the scores."""
    vocabulary, merges = _model(state)
    ranks = _ranks(vocabulary, merges, added)
    model = state.get("model")
    unknown = model.get("unk_token") if isinstance(model, Mapping) else None
    tokens = Tokens("llama", [], bytearray(), [])
    for text, index in sorted(vocabulary.items(), key=lambda item: item[1]):
        kind = UNKNOWN if text == unknown else NORMAL if byte_value(text) is None else BYTE
        tokens.put(index, text, kind, -float(ranks.get(text, 0)))
    return tokens


def _ranks(vocabulary: Mapping[str, int], merges: list[tuple[str, str]], added: set[str]) -> dict[str, int]:
    """Return the order in which merged tokens are preferred.

    GGUF's kind has no merges: any two tokens that make a third merge. Raises TokenizerError where the file's merges
    say something else.
    """
    ranks: dict[str, int] = {}
    ways: dict[str, int] = {}
    last = ""
    for left, right in merges:
        made = left + right
        if made in ranks and made != last:
            raise TokenizerError(*_UNLIKE, hint=_UNLIKE_HINT)
        ranks.setdefault(made, len(ranks) + 1)
        ways[made] = ways.get(made, 0) + 1
        last = made
    plain = {text for text in vocabulary if text not in added and byte_value(text) is None}
    for text in plain:
        if 1 < len(text) <= _LONGEST:
            possible = sum(text[:cut] in plain and text[cut:] in plain for cut in range(1, len(text)))
            if possible > ways.get(text, 0):
                raise TokenizerError(*_UNLIKE, hint=_UNLIKE_HINT)
    return ranks


_UNLIKE = (
    "tokenizer.json merges in an order that scores, which are all that GGUF has for its kind, cannot give",
)
_UNLIKE_HINT = "a tokenizer.model beside it would be read instead"


def _prepends(state: Mapping[str, object]) -> bool:
    """Whether a tokenizer.json puts a space before a text."""
    if any(step.get("type") == "Prepend" for step in steps_of(state.get("normalizer"))):
        return True
    for step in steps_of(state.get("pre_tokenizer")):
        if step.get("type") == "Metaspace":
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            return scheme != "never"
    return False


def _added_in(state: Mapping[str, object]) -> list[AddedEntry]:
    """Return the tokens that a tokenizer.json adds to its own model."""
    found = []
    listed = state.get("added_tokens")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and type(entry.get("id")) is int and entry.get("content"):
            flags = {name: bool(entry.get(name, False)) for name in ("special", "lstrip", "rstrip")}
            found.append(AddedEntry(entry["id"], str(entry["content"]), **flags))
    return found


def _fit(tokens: Tokens, size: int, added: set[str]) -> None:
    """Drop tokens without embeddings; raise TokenizerError if there are others than added ones."""
    beyond = [text for text in tokens.texts[size:] if text is not None and text not in added]
    if beyond:
        raise TokenizerError(
            f"the tokenizer has {len(tokens.texts)} tokens, and the model has embeddings for {size}",
            hint="the folder holds another model's tokenizer, or a damaged one",
        )
    del tokens.texts[size:], tokens.types[size:], tokens.scores[size:]


def _add(tokens: Tokens, added: Iterable[AddedEntry], size: int) -> None:
    """Put the added tokens in their places; those that the model has no embedding for are left out."""
    for entry in added:
        if not 0 <= entry.id < size:
            continue
        if entry.id < len(tokens.types) and tokens.types[entry.id] == UNKNOWN:
            continue
        markup = entry.special or _MARKUP.fullmatch(entry.text) is not None
        text = entry.text
        if not markup and tokens.kind == "llama":
            # these are looked for in the text before its spaces become ▁
            text = text.replace("▁", " ")
        tokens.put(entry.id, text, CONTROL if markup else USER_DEFINED, _ADDED_SCORE)
        tokens.greedy = tokens.greedy or (entry.rstrip and tokens.kind == "llama")


def _padded(tokens: Tokens, size: int) -> Tokens:
    """Give every embedding a token."""
    if len(tokens.texts) < size:
        tokens.put(size - 1, "", UNUSED, _ABSENT_SCORE)
        tokens.texts[size - 1] = None
    for index, text in enumerate(tokens.texts):
        if text is None or text == "":
            tokens.texts[index], tokens.types[index] = f"[PAD{index}]", UNUSED
    return tokens
