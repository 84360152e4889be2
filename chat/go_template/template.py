"""Ollama's chat templates, written in Go's text/template: one for whole conversations, or one for each exchange.

Facts: Go's text/template, and template.go of Ollama. Where Go would print a struct of a tool in its own notation, JSON
is written, which the templates' authors mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ...errors import TemplateError
from ..families.switch import Switch
from ..limits import Budget, LimitExceeded, Limits
from ..template import Template
from .evaluator import Evaluator, GoFailure
from .functions import FUNCTIONS, LAZY, GoError
from .lexer import GoSyntaxError
from .nodes import Action, Chain, Dot, Pipe
from .parser import names_of, parse, until_response
from .values import Struct, Written

# What opens a Go template's action and can open no Jinja expression.
_GO_ACTION = re.compile(
    r"\{\{-?\s*(?:[.$]|/\*|(?:if|with|block|define|template)\s|range\s+[.$]|(?:else|end|break|continue)\b"
    r"|(?:json|slice|len|index|eq|ne|and|or|not|print|printf|println)\s+[.$(])"
)
_JINJA_OPENS = re.compile(r"\{[%#]")
_MAX_SOURCE = 1_000_000
_LEVELS = ("low", "medium", "high", "max")


def is_go(source: str) -> bool:
    """Tell whether a template is written in Go's template language rather than in Jinja."""
    return _GO_ACTION.search(_without_statements(source)) is not None


def _without_statements(source: str) -> str:
    """Return a source without Jinja's statements and comments; one that never ends stays."""
    kept, at, endless = [], 0, set()
    for opened in _JINJA_OPENS.finditer(source):
        kind = opened.group()
        if opened.start() < at or kind in endless:
            continue
        end = source.find(f"{kind[1]}}}", opened.end())
        if end < 0:
            endless.add(kind)
            continue
        kept.append(source[at : opened.start()])
        at = end + 2
    return "".join(kept) + source[at:]


class GoTemplate(Template):
    """A compiled Go template; rendering is bounded in memory and time, and threads may share it."""

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        path_name: str = "TEMPLATE",
        limits: Limits | None = None,
    ) -> None:
        self.bos, self.eos = bos, eos
        self.source = source
        self.path_name = path_name
        self._limits = limits or Limits()
        if len(source) > _MAX_SOURCE:
            raise TemplateError(f"{path_name}: {len(source):,} characters are too many for a template")
        try:
            self._tree = parse(source, (*FUNCTIONS, *LAZY))
        except GoSyntaxError as error:
            raise TemplateError(f"{path_name}, line {error.line}: {error}") from None
        lists = (self._tree.root, *self._tree.defined.values())
        self.variables = frozenset(name for nodes in lists for name in names_of(nodes))
        if self.variables.isdisjoint(("Messages", "Response")):
            self._tree.root = (*self._tree.root, Action(Pipe(((Chain(Dot(), ("Response",)),),))))
        self._last = until_response(self._tree.root)
        self.switch = _switch(self.variables)

    @property
    def takes_tools(self) -> bool:
        """Whether the template describes tools to the model at all."""
        return "Tools" in self.variables

    def _render(self, messages: list[dict[str, object]], **variables: object) -> str:
        tools = variables.get("tools") or []
        assert isinstance(tools, Sequence)
        think = {name: variables.get(name, unsaid) for name, unsaid in _UNSAID.items()}
        budget = Budget(self._limits, [messages, tools])
        try:
            if "Messages" not in self.variables:
                return "".join(self._exchanges(messages, think, budget))
            system, collated = _collated(messages)
            data = {
                "System": system,
                "Messages": [_message(one) for one in collated],
                "Response": "",
                **think,
            }
            data["Tools"] = [_tool(tool) for tool in tools] if tools else None
            return Evaluator(self._tree, budget).run(data)
        except (GoError, LimitExceeded, RecursionError) as error:
            line = f", line {error.line}" if isinstance(error, GoFailure) else ""
            reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
            hint = "--raw sends the prompt without a template"
            raise TemplateError(f"{self.path_name}{line}: {reason}", hint=hint) from error

    def _exchanges(
        self, messages: list[dict[str, object]], think: Mapping[str, object], budget: Budget
    ) -> Iterator[str]:
        """Write a template that knows one question and one answer once for each; the last is left open."""
        said = {"System": "", "Prompt": "", "Response": ""}

        def written(*, last: bool = False) -> str:
            data = {**said, **think}
            said.update(System="", Prompt="", Response="")
            return Evaluator(self._tree, budget).run(data, self._last if last else None)

        for message in messages:
            role, content = message["role"], str(message.get("content") or "")
            if role == "system":
                if said["Prompt"] or said["Response"]:
                    yield written()
                said["System"] = content
            elif role == "user":
                if said["Response"]:
                    yield written()
                said["Prompt"] = content
            elif role == "assistant":
                said["Response"] = content
        yield written(last=True)


# What Ollama says to a model that can think, where nobody has said anything.
_UNSAID: Mapping[str, object] = {"Think": True, "ThinkLevel": "", "IsThinkSet": True}


def _switch(variables: frozenset[str]) -> Switch:
    if variables.isdisjoint(("Think", "IsThinkSet")):
        return Switch()
    levels = {level: level for level in _LEVELS} if "ThinkLevel" in variables else {}
    set_on, set_off = ({"Think": on, "IsThinkSet": True} for on in (True, False))
    return Switch(set_on, set_off, levels, effort="ThinkLevel")


def _collated(messages: list[dict[str, object]]) -> tuple[str, list[dict[str, object]]]:
    """Join what one role says in a row, tools aside; return the system messages too."""
    collated: list[dict[str, object]] = []
    for message in messages:
        last = collated[-1] if collated else None
        if last is not None and last["role"] == message["role"] != "tool":
            last["content"] = f"{last.get('content') or ''}\n\n{message.get('content') or ''}"
        else:
            collated.append(dict(message))
    system = [str(message.get("content") or "") for message in messages if message["role"] == "system"]
    return "\n\n".join(system), collated


def _message(message: Mapping[str, object]) -> Struct:
    calls = message.get("tool_calls") or []
    assert isinstance(calls, Sequence)
    return Struct(
        Role=message["role"],
        Content=message.get("content") or "",
        Thinking=message.get("reasoning_content") or message.get("thinking") or "",
        Images=[],
        ToolCalls=[_call(index, call) for index, call in enumerate(calls)],
        ToolName=message.get("name") or message.get("tool_name") or "",
        ToolCallID=message.get("tool_call_id") or "",
    )


def _call(index: int, call: Mapping[str, object]) -> Struct:
    function = call["function"]
    assert isinstance(function, Mapping)
    name, arguments = function["name"], function["arguments"]
    shown = {"name": name, "arguments": arguments}
    inner = Written({"Index": index, "Name": name, "Arguments": arguments}, shown)
    return Written({"ID": call.get("id") or "", "Function": inner}, {"id": call.get("id"), "function": shown})


def _tool(tool: Mapping[str, object]) -> Struct:
    function = tool.get("function")
    function = function if isinstance(function, Mapping) else {}
    given = function.get("parameters")
    given = given if isinstance(given, Mapping) else {}
    wanted = ("type", "$defs", "items", "required", "properties")
    # Fields in the order of Ollama's structs; a property's likewise, and what those do not know at the end.
    shown = Struct({name: given[name] for name in wanted if name in given})
    shown.update((name, value) for name, value in given.items() if name not in wanted)
    properties = given.get("properties")
    if isinstance(properties, Mapping):
        shown["properties"] = {name: _property(value) for name, value in properties.items()}
    parameters = Written(
        {
            "Type": given.get("type", ""),
            "Defs": given.get("$defs"),
            "Items": given.get("items"),
            "Required": given.get("required") or [],
            "Properties": shown.get("properties") or {},
        },
        shown,
    )
    name, description = function.get("name", ""), function.get("description", "")
    inner = Struct(name=name, description=description, parameters=parameters)
    written = Written({"Name": name, "Description": description, "Parameters": parameters}, inner)
    kind = tool.get("type", "function")
    return Written(
        {"Type": kind, "Items": tool.get("items"), "Function": written}, Struct(type=kind, function=written)
    )


def _property(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    order = ("anyOf", "type", "items", "description", "enum", "properties", "required")
    shown = Struct({name: value[name] for name in order if name in value})
    shown.update((name, item) for name, item in value.items() if name not in order)
    return Written(
        {_FIELDS.get(name, name): item for name, item in ({**dict.fromkeys(order), **value}).items()}, shown
    )


_FIELDS = {
    "anyOf": "AnyOf", "type": "Type", "items": "Items", "description": "Description", "enum": "Enum",
    "properties": "Properties", "required": "Required",
}  # fmt: skip
