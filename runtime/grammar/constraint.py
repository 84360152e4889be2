"""What an answer must look like, as a user writes it: JSON, a schema, a regular expression, a choice, a grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from ...errors import InvalidRequest

Kind = Literal["json", "schema", "regex", "choice", "gbnf", "lark"]
# What a finished answer is: whole, the beginning of something valid, or neither.
Conformity = Literal["valid", "incomplete", "invalid"]

_LONGEST: dict[Kind, int] = {
    "json": 0,
    "schema": 1_000_000,
    "regex": 10_000,
    "choice": 200_000,
    "gbnf": 500_000,
    "lark": 500_000,
}
_HINT = "json, {…} (a JSON schema), regex:EXPRESSION or choice:A,B,C"
_COMMENT = re.compile(r"(?:#|//)[^\n]*")


@dataclass(frozen=True, slots=True)
class Constraint:
    """One rule for the whole answer.

    text: nothing for "json" (any JSON object), a JSON list of texts for "choice", else the source itself.
    """

    kind: Kind
    text: str = ""

    def __post_init__(self) -> None:
        if len(self.text) > _LONGEST[self.kind]:
            noun = {"schema": "schema", "regex": "regular expression", "choice": "choice"}.get(
                self.kind, "grammar"
            )
            _refuse(f"the {noun} is longer than {_LONGEST[self.kind]} characters")

    @property
    def choices(self) -> list[str]:
        """Return the texts of a "choice"."""
        return list(json.loads(self.text))


def parse_format(value: object) -> Constraint:
    """Read a format: `json`, a schema as text or object, `regex:…`, `choice:a,b,c`; raises InvalidRequest."""
    if isinstance(value, Mapping):
        return Constraint("schema", _dump(value))
    if not isinstance(value, str):
        _refuse("a format must be a text or a JSON schema", hint=_HINT)
    text = value.strip()
    if text == "json":
        return Constraint("json")
    if text.startswith("{"):
        return parse_schema(text)
    kind, colon, rest = value.lstrip().partition(":")
    if colon and kind == "regex":
        return _parse_regex(rest)
    if colon and kind == "choice":
        return _parse_choice(rest)
    return _refuse(f"unknown format {text[:60]!r}", hint=_HINT)


def parse_schema(text: str, name: str = "the schema") -> Constraint:
    """Read a JSON schema; `name` is what errors call it. Raises InvalidRequest with line and column."""
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        _refuse(f"{name} is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})")
    except RecursionError:
        _refuse(f"{name} is nested too deeply")
    except ValueError:  # a whole number of thousands of digits
        _refuse(f"{name} holds a number that is too long")
    if not isinstance(value, dict):
        _refuse(f"{name} must be a JSON object")
    return Constraint("schema", _dump(value))


def parse_grammar(text: str, name: str = "") -> Constraint:
    """Take a grammar in GBNF or Lark; told apart by the file's name if it says so, else by `::=`."""
    if not text.strip():
        _refuse("the grammar is empty", field="grammar")
    if name.endswith(".gbnf") or (not name.endswith(".lark") and "::=" in _COMMENT.sub("", text)):
        return Constraint("gbnf", text)
    return Constraint("lark", text)


def _parse_regex(text: str) -> Constraint:
    if not text:
        _refuse("the regular expression is empty", hint="regex:[0-9]+")
    return Constraint("regex", text)


def _parse_choice(text: str) -> Constraint:
    """Read `a,b,c`, where `\\,` is a comma within a text, or a JSON list of texts."""
    try:
        listed = json.loads(text) if text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        listed = None
    if isinstance(listed, list) and all(isinstance(choice, str) for choice in listed):
        choices = listed
    else:
        choices = [part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]
    if not any(choices):
        _refuse("there is nothing to choose from", hint="choice:yes,no")
    if not all(choices):
        _refuse("a choice must not be empty", hint="choice:yes,no")
    return Constraint("choice", _dump(list(dict.fromkeys(choices))))


def _dump(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        _refuse("the schema is not JSON")


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no JSON number")


def _refuse(message: str, *, field: str = "format", hint: str | None = None) -> NoReturn:
    raise InvalidRequest(message, field=field, hint=hint)
