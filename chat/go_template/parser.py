"""From the source of a Go template to its nodes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from .lexer import GoSyntaxError, Word, words
from .nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Constant,
    Dot,
    Function,
    Jump,
    Node,
    Nodes,
    Operand,
    Pipe,
    Text,
    Tree,
    Variable,
)

_CONSTANTS = {"true": True, "false": False, "nil": None}
_DEEPEST = 100
_LITERAL = re.compile(
    r"""["'](?:[^\\]|\\(?:[abfnrtv\\"']|[0-3][0-7]{2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*["']"""
)


def parse(source: str, functions: Collection[str]) -> Tree:
    """Parse a template. Raises GoSyntaxError, also for a function that there is not."""
    return _Parser(source, functions).tree()


def names_of(nodes: Nodes) -> Iterator[str]:
    """Yield the names of all fields and variables that nodes mention."""
    for node in nodes:
        if isinstance(node, Action | Branch | Call) and node.pipe is not None:
            yield from _operand_names(node.pipe)
        if isinstance(node, Branch):
            yield from names_of(node.body)
            yield from names_of(node.otherwise)


def until_response(nodes: Nodes) -> Nodes:
    """Return the nodes before the first mention of `.Response`, within branches too."""
    return _cut(nodes)[0]


def _cut(nodes: Nodes) -> tuple[Nodes, bool]:
    kept: list[Node] = []
    for node in nodes:
        pipe = node.pipe if isinstance(node, Action | Branch | Call) else None
        if pipe is not None and "Response" in _operand_names(pipe):
            return tuple(kept), True
        if isinstance(node, Branch):
            body, found = _cut(node.body)
            otherwise, found_else = (node.otherwise, False) if found else _cut(node.otherwise)
            if found or found_else:
                kept.append(replace(node, body=body, otherwise=() if found else otherwise))
                return tuple(kept), True
        kept.append(node)
    return tuple(kept), False


def _operand_names(operand: Operand) -> Iterator[str]:
    if isinstance(operand, Chain):
        yield from operand.names
        yield from _operand_names(operand.operand)
    elif isinstance(operand, Variable):
        yield operand.name
    elif isinstance(operand, Pipe):
        for command in operand.commands:
            for argument in command:
                yield from _operand_names(argument)


class _Parser:
    def __init__(self, source: str, functions: Collection[str]) -> None:
        self._functions = functions
        self._words = list(words(source))
        self._at = 0
        self._depth = 0
        self._loops = 0
        self._variables = [""]
        self._defined: dict[str, Nodes] = {}

    def tree(self) -> Tree:
        root, ended = self._list()
        if ended.kind != "end":
            raise self._unexpected(ended)
        return Tree(root, self._defined)

    @property
    def _word(self) -> Word:
        return self._words[self._at]

    def _next(self) -> Word:
        self._at += 1
        return self._words[self._at - 1]

    def _accept(self, kind: str, text: str | None = None) -> bool:
        found = self._word.kind == kind and text in (None, self._word.text)
        self._at += found
        return found

    def _expect(self, kind: str) -> Word:
        word = self._next()
        if word.kind != kind:
            raise self._unexpected(word)
        return word

    def _unexpected(self, word: Word) -> GoSyntaxError:
        return GoSyntaxError(f"unexpected {word.text!r}" if word.text else "unexpected end", word.line)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise GoSyntaxError("it nests too deeply", self._word.line)

    def _list(self) -> tuple[Nodes, Word]:
        """Parse up to an `{{end}}` or `{{else}}`, whose word is returned, or the end of the source."""
        self._enter()
        nodes: list[Node] = []
        while True:
            word = self._next()
            if word.kind == "text":
                nodes.append(Text(word.text))
            elif word.kind == "end":
                self._depth -= 1
                return tuple(nodes), word
            elif self._word.kind == "word" and self._word.text in ("end", "else"):
                self._depth -= 1
                return tuple(nodes), self._next()
            else:
                node = self._action()
                nodes += [] if node is None else [node]

    def _action(self) -> Node | None:
        word = self._word
        keyword = word.text if word.kind == "word" else ""
        if keyword in ("if", "with", "range"):
            self._at += 1
            return self._branch(keyword)
        if keyword in ("define", "block"):
            self._at += 1
            return self._define(block=keyword == "block", line=word.line)
        if keyword == "template":
            self._at += 1
            name = _unquoted(self._expect("string"))
            pipe = None if self._word.kind == "close" else self._pipe()
            self._expect("close")
            return Call(name, pipe, word.line)
        if keyword in ("break", "continue"):
            self._at += 1
            if not self._loops:
                raise GoSyntaxError(f"{keyword} outside of a range", word.line)
            self._expect("close")
            return Jump(keyword)
        pipe = self._pipe()
        self._expect("close")
        return Action(pipe)

    def _branch(self, kind: str) -> Branch:
        known = len(self._variables)
        pipe = self._pipe(most=2 if kind == "range" else 1)
        self._expect("close")
        self._loops += kind == "range"
        body, ended = self._list()
        self._loops -= kind == "range"
        otherwise: Nodes = ()
        if ended.text == "else":
            del self._variables[known + len(pipe.variables) if pipe.declares else known :]
            if self._word.kind == "word" and self._word.text == kind and kind != "range":
                self._enter()
                self._at += 1
                otherwise = (self._branch(kind),)
                self._depth -= 1
                del self._variables[known:]
                return Branch(kind, pipe, body, otherwise)
            self._expect("close")
            otherwise, ended = self._list()
        if ended.text != "end":
            raise self._unexpected(ended)
        self._expect("close")
        del self._variables[known:]
        return Branch(kind, pipe, body, otherwise)

    def _define(self, *, block: bool, line: int) -> Node | None:
        name = _unquoted(self._expect("string"))
        pipe = self._pipe() if block else None
        self._expect("close")
        outer, self._variables = self._variables, [""]
        loops, self._loops = self._loops, 0
        body, ended = self._list()
        self._variables, self._loops = outer, loops
        if ended.text != "end":
            raise self._unexpected(ended)
        self._expect("close")
        self._defined[name] = body
        return Call(name, pipe, line) if block else None

    def _pipe(self, most: int = 1) -> Pipe:
        line = self._word.line
        variables, declares = self._declaration(most)
        commands = [self._command()]
        while self._accept("sign", "|"):
            commands.append(self._command())
        if declares:
            self._variables += variables
        return Pipe(tuple(commands), tuple(variables), declares, line)

    def _declaration(self, most: int) -> tuple[list[str], bool]:
        """Parse `$a :=`, `$a, $b :=` or `$a =`, if it is there."""
        start = self._at
        variables: list[str] = []
        while self._word.kind == "variable" and len(variables) < most:
            variables.append(self._next().text[1:])
            if not self._accept("sign", ","):
                break
        word = self._word
        if variables and word.kind == "sign" and word.text in (":=", "="):
            self._at += 1
            if word.text == "=":
                for name in variables:
                    self._check_variable(name, word.line)
            return variables, word.text == ":="
        self._at = start
        return [], True

    def _command(self) -> tuple[Operand, ...]:
        arguments: list[Operand] = []
        while self._word.kind not in ("close", "end") and not self._is_sign("|", ")"):
            if arguments and not self._word.spaced and self._word.kind != "sign":
                raise self._unexpected(self._word)
            arguments.append(self._operand())
        if not arguments:
            raise GoSyntaxError("missing value for command", self._word.line)
        if len(arguments) > 1 and isinstance(arguments[0], Constant | Dot | Pipe):
            raise GoSyntaxError("only a function takes arguments", self._word.line)
        return tuple(arguments)

    def _is_sign(self, *texts: str) -> bool:
        return self._word.kind == "sign" and self._word.text in texts

    def _operand(self) -> Operand:
        word = self._next()
        operand: Operand
        if word.kind == "field":
            operand = Chain(Dot(), (word.text[1:],))
        elif word.kind == "variable":
            self._check_variable(word.text[1:], word.line)
            operand = Variable(word.text[1:])
        elif word.kind == "sign" and word.text == "(":
            self._enter()
            operand = self._pipe()
            self._depth -= 1
            if not self._accept("sign", ")"):
                raise self._unexpected(self._word)
        else:
            operand = self._plain(word)
        names = []
        while self._word.kind == "field" and not self._word.spaced:
            names.append(self._next().text[1:])
        if not names:
            return operand
        if isinstance(operand, Chain):
            return Chain(operand.operand, (*operand.names, *names))
        return Chain(operand, tuple(names))

    def _plain(self, word: Word) -> Operand:
        if word.kind == "dot":
            return Dot()
        if word.kind in ("string", "char"):
            text = _unquoted(word)
            return Constant(text if word.kind == "string" else ord(text))
        if word.kind == "number":
            return Constant(_number(word))
        if word.kind != "word":
            raise self._unexpected(word)
        if word.text in _CONSTANTS:
            return Constant(_CONSTANTS[word.text])
        if word.text not in self._functions:
            raise GoSyntaxError(f'function "{word.text}" not defined', word.line)
        return Function(word.text)

    def _check_variable(self, name: str, line: int) -> None:
        if name not in self._variables:
            raise GoSyntaxError(f'undefined variable "${name}"', line)


def _unquoted(word: Word) -> str:
    """Return what a literal stands for; Go's escapes are Python's, but for `\\'` in strings, which both know."""
    if word.text.startswith("`"):
        return word.text[1:-1].replace("\r", "")
    wrong = GoSyntaxError(f"{word.text} is no literal", word.line)
    if _LITERAL.fullmatch(word.text) is None:
        raise wrong
    try:
        value = ast.literal_eval(word.text)
        value.encode()  # half of a surrogate pair is no character
    except (ValueError, SyntaxError):
        raise wrong from None
    if not isinstance(value, str) or (word.kind == "char" and len(value) != 1):
        raise wrong
    return value


def _number(word: Word) -> int | float:
    try:
        value: int | float = int(word.text, 0)
    except ValueError:
        try:
            value = float(word.text)
        except ValueError:
            raise GoSyntaxError(f"{word.text} is no number", word.line) from None
    if (isinstance(value, int) and value.bit_length() > 64) or value == math.inf:
        raise GoSyntaxError(f"{word.text[:40]} is too large a number", word.line)
    return value
