"""llama.cpp's grammar notation (GBNF), translated into the Lark dialect of llguidance.

GBNF has no lexer: any text that its rules derive is a text of the grammar. Lark takes the longest lexeme and never
goes back, so a literal or a repetition as one lexeme would forbid texts that GBNF allows. Therefore a grammar
without recursion becomes one lexeme as a whole, and of any other each character is a lexeme of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from ...errors import InvalidRequest
from .size import check_size

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)+")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_NEXT_LINE_GOES_ON = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*\|")
_COUNTS = re.compile(r"\{\s*(\d{0,9})\s*(,?)\s*(\d{0,9})\s*\}")
_TOKEN = re.compile(r"<\[(\d{1,9})\]>|<[^<>\s]+>")
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_DEEPEST = 100


class Node(Protocol):
    """A part of a rule."""

    def lark(self, names: dict[str, str]) -> str:
        """Return the part in Lark; names: what the rules are called there."""

    def parts(self) -> list[Node]:
        """Return the parts that this one is made of."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a class, written as a regular expression."""

    regex: str

    def lark(self, names: dict[str, str]) -> str:
        return f"/{self.regex}/"

    def parts(self) -> list[Node]:
        return []


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the vocabulary, by number or by name."""

    name: str

    def lark(self, names: dict[str, str]) -> str:
        return self.name

    def parts(self) -> list[Node]:
        return []


@dataclass(frozen=True, slots=True)
class Reference:
    """Another rule."""

    name: str
    at: int

    def lark(self, names: dict[str, str]) -> str:
        return names[self.name]

    def parts(self) -> list[Node]:
        return []


@dataclass(frozen=True, slots=True)
class Row:
    """Parts one after another."""

    nodes: list[Node]

    def lark(self, names: dict[str, str]) -> str:
        return " ".join(node.lark(names) for node in self.nodes) or '""'

    def parts(self) -> list[Node]:
        return self.nodes


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several parts."""

    nodes: list[Node]

    def lark(self, names: dict[str, str]) -> str:
        return "(" + " | ".join(node.lark(names) for node in self.nodes) + ")"

    def parts(self) -> list[Node]:
        return self.nodes


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part from `least` to `most` times; most None: any number."""

    node: Node
    least: int
    most: int | None

    def lark(self, names: dict[str, str]) -> str:
        if self.most == 0:
            return '""'
        counts = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((self.least, self.most))
        if counts is None:
            counts = f"{{{self.least},{'' if self.most is None else self.most}}}"
        return f"({self.node.lark(names)}){counts}"

    def parts(self) -> list[Node]:
        return [self.node]


def gbnf_to_lark(text: str) -> str:
    """Translate a grammar; raises InvalidRequest that names line and column, or what cannot be expressed."""
    rules = _Parser(text).rules()
    reached = _reached(rules)
    if "root" not in finite_rules(rules):
        raise _invalid("the grammar accepts nothing: its rule `root` never comes to an end")
    check_size(max(_sizes(rules, reached).values()), field="grammar", noun="grammar")
    regular = not _is_recursive(rules, "root") and not any(
        isinstance(node, Token) for name in reached for node in _walk(rules[name])
    )
    kind = "R" if regular else "r"
    names = {name: f"{kind}{i}" for i, name in enumerate(reached)}
    lines = [f"{names[name]}: {rules[name].lark(names)}" for name in reached]
    return "\n".join([f"start: {names['root']}", *lines, ""])


@dataclass(slots=True)
class _Parser:
    """Reads rules; `at` is the position reached."""

    text: str
    at: int = 0
    depth: int = 0
    found: dict[str, Node] = field(default_factory=dict)

    def rules(self) -> dict[str, Node]:
        """Return all rules by name."""
        self._skip(_SPACE_AND_LINES)
        while self.at < len(self.text):
            name = self._match(_NAME) or self._fail("a rule's name must stand here")
            self._skip(_SPACE)
            if not self._take("::="):
                self._fail(f"`::=` must follow the rule's name {name!r}")
            if name in self.found:
                self._fail(f"the rule {name!r} is there twice")
            self._skip(_SPACE_AND_LINES)
            self.found[name] = self._choice(nested=False)
            if self.at < len(self.text) and self.text[self.at] not in "\r\n":
                self._fail(f"nothing is known that begins with {self.text[self.at]!r}")
            self._skip(_SPACE_AND_LINES)
        if "root" not in self.found:
            raise _invalid("the grammar has no rule `root`")
        for node in (node for rule in self.found.values() for node in _walk(rule)):
            if isinstance(node, Reference) and node.name not in self.found:
                self.at = node.at
                self._fail(f"there is no rule {node.name!r}")
        return self.found

    def _choice(self, *, nested: bool) -> Node:
        nodes = [self._row(nested=nested)]
        while self._goes_on(nested) and self._take("|"):
            self._skip(_SPACE_AND_LINES)
            nodes.append(self._row(nested=nested))
        return nodes[0] if len(nodes) == 1 else Choice(nodes)

    def _goes_on(self, nested: bool) -> bool:
        """Step over line ends where the next line goes on with an alternative."""
        if nested or _NEXT_LINE_GOES_ON.match(self.text, self.at):
            self._skip(_SPACE_AND_LINES)
        return True

    def _row(self, *, nested: bool) -> Node:
        nodes: list[Node] = []
        while (part := self._part()) is not None:
            self._skip(_SPACE_AND_LINES if nested else _SPACE)
            nodes.append(self._repeated(part, nested=nested))
        return Row(nodes)

    def _part(self) -> Node | None:
        char = self.text[self.at : self.at + 1]
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if char == "<":
            return self._token()
        if char == "!":
            self._fail("tokens that must not come (`!<...>`) are not supported")
        if self._take("."):
            return Chars("(?s:.)")
        start = self.at
        name = self._match(_NAME)
        return Reference(name, start) if name else None

    def _repeated(self, part: Node, *, nested: bool) -> Node:
        while (char := self.text[self.at : self.at + 1]) and char in "*+?{":
            if char == "{":
                part = self._counted(part)
            else:
                self.at += 1
                part = Repeat(part, 1 if char == "+" else 0, 1 if char == "?" else None)
            self._skip(_SPACE_AND_LINES if nested else _SPACE)
        return part

    def _counted(self, part: Node) -> Node:
        match = _COUNTS.match(self.text, self.at)
        if match is None or not (match[1] or match[3]) or (match[3] and not match[2]):
            self._fail("a number of repetitions is written {3}, {3,} or {3,5}")
        least = int(match[1] or 0)
        most = int(match[3]) if match[3] else None if match[2] else least
        if most is not None and most < least:
            self._fail(f"{least} repetitions at least and {most} at most cannot be")
        self.at = match.end()
        return Repeat(part, least, most)

    def _literal(self) -> Node:
        start, nodes = self.at, list[Node]()
        self.at += 1
        while not self._take('"'):
            if self.at >= len(self.text):
                self.at = start
                self._fail("the text that begins here has no end")
            nodes.append(Chars(_escape(self._char())))
        return Row(nodes)

    def _class(self) -> Node:
        start = self.at
        self.at += 1
        regex = "[^" if self._take("^") else "["
        empty = regex
        while not self._take("]"):
            if self.at >= len(self.text):
                self.at = start
                self._fail("the class of characters that begins here has no end")
            low = self._char()
            regex += _escape(low)
            if self.text[self.at : self.at + 1] == "-" and self.text[self.at + 1 : self.at + 2] not in (
                "]",
                "",
            ):
                self.at += 1
                high = self._char()
                if high < low:
                    self._fail(f"the range {low!r} to {high!r} runs backwards")
                regex += "-" + _escape(high)
        if regex == empty:
            self.at = start
            self._fail("this class of characters is empty")
        return Chars(regex + "]")

    def _group(self) -> Node:
        start = self.at
        self.at += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            self._fail(f"more than {_DEEPEST} parentheses are open")
        self._skip(_SPACE_AND_LINES)
        node = self._choice(nested=True)
        if not self._take(")"):
            self.at = start if self.at >= len(self.text) else self.at
            self._fail("a `)` is missing")
        self.depth -= 1
        return node

    def _token(self) -> Node:
        match = _TOKEN.match(self.text, self.at) or self._fail("a token is written <[123]> or <name>")
        self.at = match.end()
        return Token(match[0])

    def _char(self) -> str:
        """Read one character, maybe an escape."""
        char = self.text[self.at]
        self.at += 1
        if char != "\\":
            return char
        letter = self.text[self.at : self.at + 1]
        digits = self.text[self.at + 1 : self.at + 1 + _HEX_DIGITS.get(letter, 0)]
        if letter in _PLAIN and letter:
            self.at += 1
            return _PLAIN[letter]
        if letter not in _HEX_DIGITS or not re.fullmatch(rf"[0-9A-Fa-f]{{{_HEX_DIGITS[letter]}}}", digits):
            self._fail(f"unknown escape \\{letter}")
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self._fail(f"\\{letter}{digits} is no character")
        self.at += 1 + len(digits)
        return chr(code)

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match[0] if match else ""

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._match(pattern)

    def _take(self, text: str) -> bool:
        found = self.text.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _fail(self, message: str) -> NoReturn:
        before = self.text[: self.at]
        line, column = before.count("\n") + 1, self.at - (before.rfind("\n") + 1) + 1
        raise _invalid(f"{message} (line {line}, column {column} of the grammar)")


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="grammar")


def _escape(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}"


def _walk(node: Node) -> list[Node]:
    found = [node]
    for inner in found:
        found += inner.parts()
    return found


def _references(rule: Node) -> set[str]:
    return {node.name for node in _walk(rule) if isinstance(node, Reference)}


def _reached(rules: dict[str, Node]) -> list[str]:
    """Return the rules that `root` needs."""
    names = ["root"]
    for name in names:
        names += sorted(_references(rules[name]) - set(names))
    return names


def _is_recursive(rules: dict[str, Node], root: str) -> bool:
    """Tell whether a rule that `root` needs contains itself."""
    left = {name: _references(rules[name]) for name in _reached(rules)}
    while done := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in done:
            del left[name]
    return bool(left)


def _sizes(rules: dict[str, Node], names: list[str]) -> dict[str, int]:
    """Return how large each rule is when its repetitions are written out; a rule within itself counts once."""
    sizes: dict[str, int] = {}

    def size(node: Node) -> int:
        if isinstance(node, Repeat):
            return size(node.node) * max(node.most or node.least, 1)
        if isinstance(node, Reference):
            return sizes.get(node.name, 1)
        return sum(map(size, node.parts())) or 1

    left = {name: _references(rules[name]) for name in names}
    while left:
        ready = [name for name, needs in left.items() if not needs & left.keys()] or list(left)
        for name in ready:
            sizes[name] = size(rules[name])
            del left[name]
    return sizes


def finite_rules(rules: dict[str, Node]) -> set[str]:
    """Return the rules from which some finite text can be made."""
    finite: set[str] = set()

    def ends(node: Node) -> bool:
        if isinstance(node, Reference):
            return node.name in finite
        if isinstance(node, Repeat):
            return node.least == 0 or ends(node.node)
        if isinstance(node, Choice):
            return any(map(ends, node.nodes))
        return all(map(ends, node.parts()))

    while new := {name for name, rule in rules.items() if name not in finite and ends(rule)}:
        finite |= new
    return finite
