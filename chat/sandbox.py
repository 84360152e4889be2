"""A Jinja environment for templates nobody has read: no way out, and neither memory nor time without limit.

Jinja's own sandbox closes the way out. The limits are ours, and rest on one invariant: a value that a
template makes is weighed when it is made, and refused above a limit. Containers are immutable here, so a
weighed value stays as light as it was, however often it is nested, compared or printed afterwards. Where one
operation can make much from little (`'a' * 10**9`), its result is estimated before. Loops count their turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import wraps

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from .limits import MAX_BITS, Budget, LimitExceeded, Limits

_MAX_ARGUMENT = 100_000  # the widest padding, the longest batch
# Too strong to bound simply, and no chat template uses them.
_REFUSED_FILTERS = ("pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr")
_REFUSED_METHODS = ("translate", "maketrans", "fromkeys")
_FREE_FILTERS = ("d", "default", "int", "float")  # their numbers are values, not sizes
# Names that a template cannot write, for what the tree is rewritten to.
_MADE, _CONCAT, _TURN = " made", " concat", " turn"


class _Bounding(NodeTransformer):
    """Rewrite a template so that what it makes and how often it loops passes through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        turn = _call(_TURN, nodes.Const(None, lineno=node.lineno))
        node.body.insert(0, nodes.ExprStmt(turn, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _call(_MADE, node)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _call(_MADE, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _call(_MADE, node) if isinstance(node.arg, nodes.Slice) else node


def _call(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _GenerationTag(Extension):
    """`{% generation %}` marks an assistant's text for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Namespace(Namespace):
    """Jinja's namespace, opaque when printed, and without a way to Python's internals."""

    def __init__(*args: object, **values: object) -> None:
        Namespace.__init__(args[0], *args[1:], **values)
        for name in values:
            _check_name(name)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


class Sandbox(ImmutableSandboxedEnvironment):
    """Compile and render templates as Hugging Face's libraries do, within a budget.

    `budget` is set anew for each rendering, so one sandbox renders one conversation at a time.
    """

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self, limits: Limits) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # or constants would be computed while compiling
            finalize=self._printed,
            extensions=[loopcontrols, _GenerationTag],
        )
        self.limits = limits
        self.budget = Budget(limits)
        self.concat = self._concat  # type: ignore[method-assign]
        self.globals.pop("lipsum")
        self.globals.update(
            dict=_new_dict,
            namespace=_Namespace,
            raise_exception=_raise_exception,
            strftime_now=_strftime_now,
        )
        for name in _REFUSED_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = self._tojson
        for name, function in list(self.filters.items()):
            self.filters[name] = self._bounded_filter(name, function)
        self.filters[_MADE] = self._made
        self.filters[_CONCAT] = self._concat
        self.filters[_TURN] = self._turn

    def load(self, source: str, name: str) -> jinja2.Template:
        """Compile a template; its frames in tracebacks carry `name` and the template's lines."""
        self.budget = Budget(self.limits)
        tree = _Bounding().visit(self.parse(source, name, name))
        code = self.compile(tree, name, name)
        return jinja2.Template.from_code(self, code, self.make_globals(None))

    def run(self, template: jinja2.Template, variables: Mapping[str, object]) -> str:
        """Render a loaded template within a fresh budget."""
        self.budget = Budget(self.limits, dict(variables))
        pieces: list[str] = []
        size = 0
        for piece in template.generate(dict(variables)):
            size += len(piece)
            self.budget.expect(size)
            pieces.append(piece)
        return "".join(pieces)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Estimate, compute, charge."""
        match operator, left, right:
            case "*", int(), int():
                self._check_bits(left.bit_length() + right.bit_length())
            case "*", int(), str() | bytes() | list() | tuple():
                self.budget.expect(left * len(right))
            case "*", str() | bytes() | list() | tuple(), int():
                self.budget.expect(len(left) * right)
            case "**", int(), int():
                self._check_bits(left.bit_length() * abs(right))
            case "%", str() | bytes(), _:
                self._check_percent(left, right)
        return self._made(super().call_binop(context, operator, left, right))

    def call(
        __self,
        __context: Context,
        __obj: object,
        *args: object,
        **kwargs: object,
    ) -> object:
        """Call what a template calls, if it is bounded."""
        # the names leave room for a template's own argument called self
        __self.budget.turn(4)  # a call takes about so many times as long as a turn of a loop
        owner = getattr(__obj, "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, str | bytes | int | float | list | tuple | dict):
            args = __self._check_method(owner, name, args, kwargs)
        result: object = super().call(__context, __obj, *args, **kwargs)
        return result if name == "get" else __self._made(result)

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        """Let `str.format` fill fields, but not pad them."""
        format_ = super().wrap_str_format(value)
        if format_ is None:
            return None
        text: str = value.__self__  # type: ignore[attr-defined]

        def bounded(*args: object, **kwargs: object) -> str:
            if re.search(r"\{[^{}]*\{|:[^{}]*\d{4}", text):
                raise SecurityError("a template cannot pad with str.format")
            self.budget.expect(len(text) + text.count("{") * self.budget.weigh([*args, kwargs]))
            return format_(*args, **kwargs)

        bounded.__name__ = "format"
        return bounded

    def _made(self, value: object) -> object:
        self.budget.made(value)
        return value

    def _turn(self, value: None) -> None:
        self.budget.turn()

    def _concat(self, parts: Iterable[object]) -> str:
        """Join the parts of `a ~ b`, of a macro or of a set block."""
        texts, size = [], 0
        for part in parts:
            texts.append(part if isinstance(part, str) else str(part))
            size += len(texts[-1])
            self.budget.expect(size)
        self.budget.turn()
        self.budget.take(size)
        return "".join(texts)

    @pass_context
    def _printed(self, context: Context, value: object) -> object:
        self.budget.made(value)
        return value

    def _check_bits(self, bits: int) -> None:
        if bits > MAX_BITS:
            raise LimitExceeded("the template makes a number with too many digits")

    def _check_percent(self, text: str | bytes, values: object) -> None:
        template = text.decode("latin-1") if isinstance(text, bytes) else text
        if re.search(r"%[^%a-zA-Z]*(\*|\d{4})", template):
            raise SecurityError("a template cannot pad with %")
        self.budget.expect(len(text) + template.count("%") * self.budget.weigh(values))

    def _check_arguments(self, args: Iterable[object]) -> None:
        for argument in args:
            if isinstance(argument, int) and abs(argument) > _MAX_ARGUMENT:
                raise LimitExceeded(f"the template passes {argument:,} as a size")

    def _check_method(
        self, owner: object, name: str, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[object, ...]:
        """Refuse a method of a builtin that makes much from little; return the arguments to call it with."""
        if name in _REFUSED_METHODS:
            raise SecurityError(f"a template cannot call {name}()")
        if name != "get":
            self._check_arguments((*args, *kwargs.values()))
        if not isinstance(owner, str | bytes):
            return args
        if name == "join" and args:
            parts = list(args[0])  # type: ignore[call-overload]
            self.budget.expect(self.budget.weigh(parts) + len(owner) * len(parts))
            return (parts, *args[1:])
        if name == "replace" and len(args) >= 2:
            self._check_replace(owner, args[0], args[1])
        if name == "expandtabs":
            widths = [option for option in (*args, *kwargs.values()) if isinstance(option, int)]
            self.budget.expect(len(owner) * max([8, *widths]))
        return args

    def _check_replace(self, text: str | bytes, old: object, new: object) -> None:
        if isinstance(new, str | bytes):
            count = text.count(old)  # type: ignore[arg-type]
            self.budget.expect(len(text) + count * len(new))

    def _bounded_filter(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        """Wrap a filter of Jinja's so that it is checked before and charged after."""
        at = 1 if hasattr(function, "jinja_pass_arg") else 0  # where the value stands

        @wraps(function)
        def bounded(*args: object, **kwargs: object) -> object:
            if len(args) > at:
                args = (*args[:at], *self._check_filter(name, args[at:], kwargs))
            result = function(*args, **kwargs)
            if len(args) > at and result is args[at]:
                self.budget.turn()
                return result
            return self._made(result)

        return bounded

    def _check_filter(
        self, name: str, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Sequence[object]:
        value, options = args[0], (*args[1:], *kwargs.values())
        if name not in _FREE_FILTERS:
            self._check_arguments(options)
        weight = sum(len(option) for option in options if isinstance(option, str | bytes))
        if name == "join":
            parts = list(value)  # type: ignore[call-overload]
            self.budget.expect(self.budget.weigh(parts) + weight * len(parts))
            return (parts, *args[1:])
        if name == "replace" and len(options) >= 2:
            self._check_replace(str(value), str(options[0]), str(options[1]))
        elif name == "indent":
            width = max([weight, *(option for option in options if isinstance(option, int))])
            self.budget.expect(len(str(value)) + width * (1 + str(value).count("\n")))
        elif name == "format":
            self._check_percent(str(value), list(options))
        elif name == "sum" and any(not isinstance(option, int | float | str) for option in options):
            raise SecurityError("a template can sum numbers only")
        return args

    def _tojson(
        self,
        value: object,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Write JSON as Hugging Face's `tojson` does: nothing is escaped for HTML. What is lazy becomes a list."""
        if isinstance(value, Iterator):
            value = list(value)
        self.budget.expect(self.budget.weigh(value) * max([1, *(len(text) for text in separators or ())]))
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        return encoder.encode(value) if indent is None else self._concat(encoder.iterencode(value))


def _new_dict(*args: Mapping[str, object], **values: object) -> dict[str, object]:
    return dict(*args, **values)


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _strftime_now(format: str) -> str:
    if len(format) > 200 or re.search(r"%[^a-zA-Z%]*\d{3}", format):
        raise SecurityError("a template cannot pad a date")
    return datetime.now().strftime(format)
