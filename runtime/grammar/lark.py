"""Lark grammars read only as far as to tell whether any text comes of them; llguidance reads them for good."""

from __future__ import annotations

import json
import re

from ...errors import InvalidRequest
from .gbnf import Chars, Choice, Node, Reference, Repeat, Row, finite_rules

_SPACE = re.compile(r"(?:\s|//[^\n]*|#[^\n]*)+")
# A rule's name, perhaps with attributes or a priority, from the beginning of a line up to its colon.
_HEAD = re.compile(r"[?!]*([A-Za-z_]\w*)(?:[ \t]*\[[^\]\n]*\]|\.-?\d+)?[ \t]*:(?!:)")
_DIRECTIVE = re.compile(r"%(?:ignore|import|declare|llguidance|override|extend)\b[^\n]*")
_LEAF = re.compile(
    r'"(?:[^"\\\n]|\\.)*"i?(?:\s*\.\.\s*"(?:[^"\\\n]|\\.)*")?'  # a text, or a range of characters
    r"|/(?:[^/\\\n]|\\.)+/[a-z]*"
    r"|<[^<>\s]+>|@\w+"
)
_NAME = re.compile(r"[A-Za-z_]\w*(?:::\w+)?")
_EMBEDDED = re.compile(r"%(?:json|regex|lark)\s*(?=\{)")
_COUNTS = re.compile(r"\{\s*(\d*)\s*,?\s*\d*\s*\}|~\s*(\d+)(?:\s*\.\.\s*\d+)?")
_ALIAS = re.compile(r"->\s*\w+")
_DEEPEST = 100


class _UnknownError(Exception):
    """Something that only llguidance knows; nothing can be told then."""


def refuse_endless(text: str) -> None:
    """Raise InvalidRequest for a grammar whose rule `start` never comes to an end."""
    try:
        rules = _Parser(text).rules()
    except _UnknownError:
        return
    if "start" in rules and "start" not in finite_rules(rules):
        raise InvalidRequest(
            "the grammar accepts nothing: its rule `start` never comes to an end", field="grammar"
        )


class _Parser:
    """Reads rules; names that have none here end somehow."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def rules(self) -> dict[str, Node]:
        """Return all rules by name."""
        found: dict[str, Node] = {}
        self._skip()
        while self._at < len(self._text):
            if self._match(_DIRECTIVE) is None:
                head = self._match(_HEAD)
                if head is None or head[1] in found:
                    raise _UnknownError
                found[head[1]] = self._choice()
            self._skip()
        names = {part.name for rule in found.values() for part in _parts(rule) if isinstance(part, Reference)}
        return found | {name: Chars("") for name in names - found.keys()}

    def _choice(self) -> Node:
        self._skip()
        self._take("|")  # some write one before the first alternative too
        nodes = [self._row()]
        while self._take("|"):
            nodes.append(self._row())
        return Choice(nodes)

    def _row(self) -> Node:
        nodes: list[Node] = []
        self._skip()
        while not self._is_head() and (node := self._part()) is not None:
            self._skip()
            nodes.append(self._repeated(node))
        self._match(_ALIAS)
        self._skip()
        return Row(nodes)

    def _is_head(self) -> bool:
        before = self._text[: self._at].rpartition("\n")[2]
        return not self._depth and not before.strip() and bool(_HEAD.match(self._text, self._at))

    def _part(self) -> Node | None:
        if self._match(_LEAF):
            return Chars("")
        if self._match(_EMBEDDED):
            return self._embedded()
        name = self._match(_NAME)
        if name:
            return Chars("") if "::" in name[0] else Reference(name[0], 0)
        for opening, closing in ("()", "[]"):
            if self._take(opening):
                return self._group(closing)
        if self._at < len(self._text) and self._text[self._at] not in "|)]-%":
            raise _UnknownError
        return None

    def _group(self, closing: str) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnknownError
        node = self._choice()
        if not self._take(closing):
            raise _UnknownError
        self._depth -= 1
        return Repeat(node, 0, 1) if closing == "]" else node

    def _embedded(self) -> Node:
        try:
            _, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
        except ValueError:
            raise _UnknownError from None
        return Chars("")

    def _repeated(self, node: Node) -> Node:
        while True:
            if counts := self._match(_COUNTS):
                node = Repeat(node, int(counts[1] or counts[2] or 0), None)
            elif self._text[self._at : self._at + 1] in ("*", "?"):
                self._at += 1
                node = Repeat(node, 0, None)
            elif not self._take("+"):
                return node
            self._skip()

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match

    def _skip(self) -> None:
        self._match(_SPACE)

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found


def _parts(node: Node) -> list[Node]:
    found = [node]
    for inner in found:
        found += inner.parts()
    return found
