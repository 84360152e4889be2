"""Everything that is said to llguidance: grammars in its form, vocabularies as it reads them, its complaints."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from ...errors import InvalidRequest
from .constraint import Constraint
from .gbnf import gbnf_to_lark
from .lark import refuse_endless
from .schema import enforceable, relaxed
from .size import check_counts, check_regex

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# No `\u`: an escaped spelling of a property's name would pass for another property. Any character may stand for
# itself. White space is bounded, or a model that repeats itself would never come to the next value.
_JSON_OPTIONS: Final[JsonCompileOptions] = {
    "lenient": False,
    "coerce_one_of": False,
    "json_allowed_escapes": '"\\bfnrt',
    "json_allow_general_unicode_escapes": False,
    "whitespace_flexible": True,
    "whitespace_pattern": r" |\r?\n[ \t]{0,24}",
}
# What is called is not read by people: on one line it costs least.
_ONE_LINE: Final[JsonCompileOptions] = {**_JSON_OPTIONS, "whitespace_pattern": " "}
_ANY_OBJECT: Final[dict[str, object]] = {"type": "object"}
# A state of the lexer takes up to 2 kB.
_MAX_STATES = 50_000
_LONGEST_TOKEN = 64


class TokenizerLike(Protocol):
    """What a grammar needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    def is_special(self, token_id: int) -> bool: ...


class Vocabulary:
    """A tokenizer as llguidance reads it; the end is a token of its own, after all others.

    What ends a generation is decided by the request, not by the grammar.
    """

    def __init__(self, tokenizer: TokenizerLike, markup: set[int]) -> None:
        size = tokenizer.vocab_size
        self.tokens = [*map(tokenizer.token_bytes, range(size)), b"<end>"]
        self.special_token_ids = [*filter(tokenizer.is_special, range(size)), *sorted(markup), size]
        self.eos_token_id = size
        self.bos_token_id = None
        self._tokenizer = tokenizer
        self._by_bytes: dict[bytes, int] = {}

    def __call__(self, data: bytes) -> list[int]:
        """Return the tokens of bytes that the grammar forces, as the model's tokenizer would split them."""
        ids = self._tokenizer.encode(data.decode("utf-8", "replace"), special=False)
        if b"".join(map(self.tokens.__getitem__, ids)) == data:
            return ids
        return self._longest(data)

    def _longest(self, data: bytes) -> list[int]:
        """Split bytes into the longest tokens, for tokenizers that put a space before a text."""
        if not self._by_bytes:
            special = set(self.special_token_ids)
            self._by_bytes = {text: i for i, text in enumerate(self.tokens) if text and i not in special}
        ids, at = list[int](), 0
        while at < len(data):
            ends = range(min(len(data), at + _LONGEST_TOKEN), at, -1)
            end = next((end for end in ends if data[at:end] in self._by_bytes), None)
            if end is None:
                break
            ids.append(self._by_bytes[data[at:end]])
            at = end
        return ids


def library_grammar(constraint: Constraint) -> str:
    """Translate a constraint into llguidance's form; raises InvalidRequest for what it would not enforce."""
    text = constraint.text
    if constraint.kind == "json":
        return _json_grammar(_ANY_OBJECT)
    if constraint.kind == "schema":
        return _json_grammar(enforceable(json.loads(text)))
    if constraint.kind == "choice":
        return LLMatcher.grammar_from_regex("|".join(map(_literal, constraint.choices)))
    if constraint.kind == "regex":
        check_regex(text, field="format", noun="regular expression")
        return LLMatcher.grammar_from_regex(text)
    if constraint.kind == "gbnf":
        return LLMatcher.grammar_from_lark(gbnf_to_lark(text))
    check_counts(text, field="grammar")
    refuse_endless(text)
    return LLMatcher.grammar_from_lark(text)


def new_matcher(library: LLTokenizer, grammar: str, constraint: Constraint) -> LLMatcher:
    """Return a matcher at the grammar's beginning; raises InvalidRequest for a grammar that is not one."""
    limits = LLParserLimits(max_lexer_states=_MAX_STATES, verbose_errors=False)
    matcher = LLMatcher(library, grammar, log_level=0, limits=limits)
    if matcher.is_error():
        _refuse(constraint, matcher.get_error())
    return matcher


def refuse_empty(start: LLMatcher, end: int, constraint: Constraint) -> None:
    """Raise InvalidRequest for a grammar that leads nowhere or is too large, which its first mask tells.

    end: the id of the library's end, which comes after all tokens.
    """
    mask = start.compute_bitmask()
    if start.is_error():
        _refuse(constraint, start.get_error())
    if not any(mask[: end // 8]) and not mask[end // 8] & ~(-1 << end % 8):
        empty = "only the empty text" if start.is_accepting() else "nothing that this model can write"
        raise InvalidRequest(f"the {_noun(constraint)} accepts {empty}", field=_field(constraint))


def load_vocabulary(vocabulary: Vocabulary) -> LLTokenizer:
    """Return llguidance's view of a vocabulary; takes up to a second."""
    return LLTokenizer(TokenizerWrapper(vocabulary))


def byte_tokenizer() -> LLTokenizer:
    """Return llguidance's view of a vocabulary of single bytes."""
    return LLTokenizer(TokenizerWrapper(_Bytes()), slices=[])


class _Bytes:
    """256 tokens, one per byte, and the end."""

    def __init__(self) -> None:
        self.tokens = [*(bytes((byte,)) for byte in range(256)), b"<end>"]
        self.special_token_ids = [256]
        self.eos_token_id = 256
        self.bos_token_id = None

    def __call__(self, data: bytes) -> list[int]:
        return list(data)


def json_rule(constraint: Constraint) -> str | None:
    """Return a format of JSON as Lark's `%json` takes it, None for any other; raises InvalidRequest."""
    if constraint.kind not in ("json", "schema"):
        return None
    schema = enforceable(json.loads(constraint.text)) if constraint.kind == "schema" else _ANY_OBJECT
    return json.dumps({**schema, "x-guidance": _JSON_OPTIONS}, ensure_ascii=False)


@lru_cache(maxsize=256)
def lenient_json(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a JSON schema as Lark's `%json` takes it, without what cannot be enforced; and what that was."""
    schema, dropped = json.loads(text), list[str]()
    for attempt in (False, True):
        try:
            if attempt:
                schema, dropped = relaxed(schema)
            strict = enforceable(schema)
            new_matcher(byte_tokenizer(), _json_grammar(strict), Constraint("schema", text[:1_000_000]))
            return json.dumps({**strict, "x-guidance": _ONE_LINE}, ensure_ascii=False), tuple(dropped)
        except InvalidRequest as error:
            reason = error.message
    kind = {"type": schema["type"]} if isinstance(schema.get("type"), str) else {}
    return json.dumps({**kind, "x-guidance": _ONE_LINE}), (reason,)


def _json_grammar(schema: dict[str, object]) -> str:
    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON_OPTIONS)


def _literal(text: str) -> str:
    """Return a regular expression for exactly this text."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def _refuse(constraint: Constraint, message: str) -> NoReturn:
    """Raise InvalidRequest with what llguidance says, in one line."""
    noun, field = _noun(constraint), _field(constraint)
    if re.search(r"too (?:big|many|complex)|grammar size|fuel", message):
        raise InvalidRequest(
            f"the {noun} is too large to be followed",
            field=field,
            hint="allow fewer repetitions, or nest them less",
        )
    if message.strip().startswith("NoExtension"):
        raise InvalidRequest(f"the {noun} accepts nothing that this model can write", field=field)
    if "oneOf" in message:
        raise InvalidRequest(
            "the schema's keyword 'oneOf' cannot be enforced: its cases do not plainly exclude one another",
            field=field,
            hint="anyOf is enforced",
        )
    found = re.findall(r"^\s*error: (.+)$", message, re.MULTILINE)
    first = message.strip().partition("\n")[0]
    at = re.match(r"(?:at )?(\d+)\((\d+)\): ", first)
    line = found[-1] if found else first[at.end() if at else 0 :]
    where = f" (line {at[1]}, column {at[2]})" if at and constraint.kind == "lark" else ""
    raise InvalidRequest(f"the {noun} cannot be enforced: {line[:300]}{where}", field=field)


def _noun(constraint: Constraint) -> str:
    nouns = {"schema": "schema", "json": "schema", "regex": "regular expression", "choice": "choice"}
    return nouns.get(constraint.kind, "grammar")


def _field(constraint: Constraint) -> str:
    return "grammar" if constraint.kind in ("gbnf", "lark") else "format"
