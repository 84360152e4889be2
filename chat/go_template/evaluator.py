"""Runs the nodes of a Go template, within bounds of time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..limits import Budget, LimitExceeded
from .functions import FUNCTIONS, LAZY, GoError
from .nodes import (
    Action,
    Branch,
    Call,
    Constant,
    Dot,
    Function,
    Jump,
    Nodes,
    Operand,
    Pipe,
    Text,
    Tree,
    Variable,
)
from .values import Struct, text_of, truth

_DEEPEST = 50
_WRITERS = frozenset(("print", "println", "printf", "html", "urlquery", "json"))


class GoFailure(GoError):
    """An error with the line of the template that it comes from."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Broken(Exception):
    """A `break` or `continue` on its way to its range."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Evaluator:
    """One run of a template."""

    def __init__(self, tree: Tree, budget: Budget) -> None:
        self._tree = tree
        self._budget = budget
        self._written: list[str] = []
        self._size = 0
        self._depth = 0
        self._variables: list[tuple[str, object]] = []

    def run(self, data: Mapping[str, object], nodes: Nodes | None = None) -> str:
        """Return what the template writes of `data`. Raises GoError and LimitExceeded."""
        self._variables = [("", data)]
        self._walk(self._tree.root if nodes is None else nodes, data)
        return "".join(self._written)

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > self._budget.max_value:
            raise LimitExceeded("the template writes too much")
        self._written.append(text)

    def _walk(self, nodes: Nodes, dot: object) -> None:
        for node in nodes:
            self._budget.turn()
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Action):
                value = self._pipe(node.pipe, dot)
                if not node.pipe.variables:
                    self._write(text_of(value))
            elif isinstance(node, Branch):
                self._branch(node, dot)
            elif isinstance(node, Call):
                self._call(node, dot)
            elif isinstance(node, Jump):
                raise _Broken(node.kind)

    def _branch(self, node: Branch, dot: object) -> None:
        known = len(self._variables)
        if node.kind == "range":
            self._range(node, dot)
        else:
            value = self._pipe(node.pipe, dot)
            if truth(value):
                self._walk(node.body, value if node.kind == "with" else dot)
            else:
                self._walk(node.otherwise, dot)
        del self._variables[known:]

    def _range(self, node: Branch, dot: object) -> None:
        value = self._commands(node.pipe, dot)
        items = self._items(value, node.pipe.line)
        known, empty = len(self._variables), True
        for key, item in items:
            empty = False
            self._budget.turn()
            given = (item,) if len(node.pipe.variables) == 1 else (key, item)
            for name, what in zip(node.pipe.variables, given, strict=False):
                self._assign(name, what, declares=node.pipe.declares)
            try:
                self._walk(node.body, item)
            except _Broken as broken:
                if broken.kind == "break":
                    break
            finally:
                del self._variables[known:]
        if empty:
            self._walk(node.otherwise, dot)

    def _items(self, value: object, line: int) -> Iterable[tuple[object, object]]:
        if value is None:
            return ()
        if isinstance(value, Mapping) and not isinstance(value, Struct):
            return [(key, value[key]) for key in sorted(value, key=str)]
        if isinstance(value, int) and not isinstance(value, bool):
            self._budget.turn(max(value, 0))
            return zip(range(value), range(value), strict=True)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return enumerate(value)
        raise GoFailure(f"range can't iterate over {text_of(value)[:40]}", line)

    def _call(self, node: Call, dot: object) -> None:
        if node.name not in self._tree.defined:
            raise GoFailure(f"template {node.name!r} not defined", node.line)
        if self._depth >= _DEEPEST:
            raise GoFailure("templates call each other too deeply", node.line)
        given = None if node.pipe is None else self._pipe(node.pipe, dot)
        outer, self._variables = self._variables, [("", given)]
        self._depth += 1
        self._walk(self._tree.defined[node.name], given)
        self._depth -= 1
        self._variables = outer

    def _pipe(self, pipe: Pipe, dot: object) -> object:
        value = self._commands(pipe, dot)
        for name in pipe.variables:
            self._assign(name, value, declares=pipe.declares)
        return value

    def _commands(self, pipe: Pipe, dot: object) -> object:
        try:
            value: tuple[object, ...] = ()
            for command in pipe.commands:
                value = (self._command(command, dot, value),)
            return value[0]
        except GoFailure:
            raise
        except GoError as error:
            raise GoFailure(str(error), pipe.line) from error

    def _command(self, command: tuple[Operand, ...], dot: object, piped: tuple[object, ...]) -> object:
        self._budget.turn()
        head, *rest = command
        if not isinstance(head, Function):
            if rest or piped:
                raise GoError("only a function takes arguments")
            return self._value(head, dot)
        if head.name in LAZY:
            return self._lazy(head.name, [*(lambda one=one: self._value(one, dot) for one in rest),
                                          *(lambda one=one: one for one in piped)])  # fmt: skip
        arguments = [*(self._value(one, dot) for one in rest), *piped]
        if head.name in _WRITERS:
            self._budget.weigh(arguments)  # before they are written: many large ones may be one and the same
        try:
            value = FUNCTIONS[head.name](*arguments)
        except (TypeError, OverflowError) as error:
            raise GoError(f"wrong arguments for {head.name}") from error
        if isinstance(value, str):
            self._budget.expect(len(value))
        return value

    def _lazy(self, name: str, arguments: list[Callable[[], object]]) -> object:
        if not arguments:
            raise GoError(f"{name} wants arguments")
        value: object = None
        for argument in arguments:
            value = argument()
            if truth(value) == (name == "or"):
                break
        return value

    def _value(self, operand: Operand, dot: object) -> object:
        if isinstance(operand, Constant):
            return operand.value
        if isinstance(operand, Dot):
            return dot
        if isinstance(operand, Variable):
            return self._variables[self._place(operand.name)][1]
        if isinstance(operand, Pipe):
            return self._pipe(operand, dot)
        if isinstance(operand, Function):
            return self._command((operand,), dot, ())
        value = self._value(operand.operand, dot)
        for name in operand.names:
            value = _field(value, name)
        return value

    def _assign(self, name: str, value: object, *, declares: bool) -> None:
        if declares:
            self._variables.append((name, value))
            return
        self._variables[self._place(name)] = (name, value)

    def _place(self, name: str) -> int:
        """Return where a variable stands; one whose declaration `and` or `or` has passed over stands nowhere."""
        for at in reversed(range(len(self._variables))):
            if self._variables[at][0] == name:
                return at
        raise GoError(f"undefined variable: ${name}")


def _field(value: object, name: str) -> object:
    if isinstance(value, Struct):
        if name not in value:
            raise GoError(f"there is no field {name}")
        return value[name]
    if isinstance(value, Mapping):
        return value.get(name)
    if value is None:
        raise GoError(f"nil has no field {name}")
    raise GoError(f"can't evaluate field {name} of {text_of(value)[:40]}")
