"""What a Go template is made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Constant:
    """A string, a number, a truth value, or nil."""

    value: object


@dataclass(frozen=True, slots=True)
class Dot:
    """The present value, `.`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name`; the empty name is what the template was given."""

    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """The fields `names` of an operand, one within the other."""

    operand: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each of which gets the value of the one before as its last argument.

    variables: what the value is given to; declares: they are new.
    """

    commands: tuple[tuple[Operand, ...], ...]
    variables: tuple[str, ...] = ()
    declares: bool = True
    line: int = 0


Operand = Constant | Dot | Variable | Function | Chain | Pipe


@dataclass(frozen=True, slots=True)
class Text:
    """Text as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """A value that is written, unless it is only given to a variable."""

    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`."""

    kind: str
    pipe: Pipe
    body: Nodes
    otherwise: Nodes = ()


@dataclass(frozen=True, slots=True)
class Call:
    """Another template by name, with what it is given."""

    name: str
    pipe: Pipe | None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    kind: str


Node = Text | Action | Branch | Call | Jump
Nodes = tuple[Node, ...]


@dataclass(slots=True)
class Tree:
    """A whole template, and those that it defines."""

    root: Nodes
    defined: dict[str, Nodes] = field(default_factory=dict)
