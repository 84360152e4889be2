"""A model's chat template: messages in, the text that the model was trained on out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Literal

import jinja2
from jinja2 import nodes

from ..errors import TemplateError
from .families.switch import Switch, find_switch
from .limits import LimitExceeded, Limits
from .message import Message, ToolCall
from .sandbox import Sandbox

# What a template, being code, can raise beside Jinja's own errors.
_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
_MAX_SOURCE = 1_000_000
_PROBE = "mullprobe"
_TOOL: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
_SHORT_ID = "call00000"
_HELLO: dict[str, object] = {"role": "user", "content": "hi"}


class Template:
    """A compiled Jinja chat template. Rendering is bounded in memory and time; threads may share it."""

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        path_name: str = "chat template",
        limits: Limits | None = None,
    ) -> None:
        self.source = source
        self.path_name = path_name
        self.bos, self.eos = bos, eos
        self._lock = threading.Lock()
        self._sandbox = Sandbox(limits or Limits())
        if len(source) > _MAX_SOURCE:
            raise TemplateError(f"{path_name}: {len(source):,} characters are too many for a template")
        try:
            self._compiled = self._sandbox.load(source, path_name)
            tree = self._sandbox.parse(source)
        except _FAILURES as error:
            raise self._failure(error) from error
        self.variables = frozenset(name.name for name in tree.find_all(nodes.Name) if name.ctx == "load")
        constants = {item.value for item in tree.find_all(nodes.Const) if isinstance(item.value, str)}
        self.switch: Switch = find_switch(self.variables, constants)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, object]] = (),
        think: Literal["auto", "on", "off"] = "auto",
        *,
        add_generation_prompt: bool = True,
        extra: Mapping[str, object] | None = None,
    ) -> str:
        """Write a conversation in the model's own format; raises TemplateError.

        A system message that the template would refuse or drop joins the first user message.
        """
        if any(message.role == "system" for message in messages) and not self._takes_system:
            messages = fold_system(messages)
        as_text = any(message.tool_calls for message in messages) and self._arguments_as_text
        return self._render(
            [_as_dict(message, arguments_as_text=as_text) for message in messages],
            tools=[_plain(tool) for tool in tools] or self._no_tools,
            add_generation_prompt=add_generation_prompt,
            **{**self.switch.variables(think), **(extra or {})},
        )

    @property
    def takes_tools(self) -> bool:
        """Whether the template describes tools to the model at all."""
        return not self.variables.isdisjoint(("tools", "functions"))

    @cached_property
    def num_calls(self) -> int:
        """How many calls of one message come through: none, 1, or 2, which stands for any number; tried once."""
        ids = [f"{_SHORT_ID[:-1]}{i}" for i in range(2)]
        calls = tuple(ToolCall("f", {"a": f"{_PROBE}{call_id}"}, call_id) for call_id in ids)
        results = [Message("tool", "b", tool_name="f", tool_call_id=call_id) for call_id in ids]
        for num in (2, 1):
            call = Message("assistant", tool_calls=calls[:num])
            text = self._tried(call, *results[:num]) or self._tried(call) or ""
            if all(f"{_PROBE}{call_id}" in text for call_id in ids[:num]):
                return num
        return 0

    @cached_property
    def takes_results(self) -> bool:
        """Whether a tool's result comes through; tried once."""
        calls = (ToolCall("f", {"a": 1}, _SHORT_ID),) if self.num_calls else ()
        result = Message("tool", _PROBE, tool_name="f", tool_call_id=_SHORT_ID)
        return _PROBE in (
            self._tried(Message("assistant", "" if calls else "a", tool_calls=calls), result) or ""
        )

    @cached_property
    def wants_short_ids(self) -> bool:
        """Whether ids of calls must have nine letters and digits, as Mistral's templates demand; tried once."""

        def goes(call_id: str) -> bool:
            call = Message("assistant", tool_calls=(ToolCall("f", {"a": 1}, call_id),))
            return self._tried(call, Message("tool", "a", tool_name="f", tool_call_id=call_id)) is not None

        return not goes(f"{_SHORT_ID}-longer") and goes(_SHORT_ID)

    def _tried(self, *messages: Message) -> str | None:
        dicts = [_as_dict(turn, arguments_as_text=self._arguments_as_text) for turn in messages]
        text = self._attempt([_HELLO, *dicts], tools=[_plain(_TOOL)])
        return self._attempt([_HELLO, *dicts], tools=self._no_tools) if text is None else text

    def _render(self, messages: list[dict[str, object]], **variables: object) -> str:
        known = {
            "messages": messages,
            "tools": None,
            "documents": None,
            "bos_token": self.bos,
            "eos_token": self.eos,
        }
        try:
            with self._lock:
                return self._sandbox.run(self._compiled, known | variables)
        except _FAILURES as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> TemplateError:
        line = getattr(error, "lineno", None) or _line_of(error.__traceback__, self.path_name)
        reason = getattr(error, "message", None) or str(error) or type(error).__name__
        if isinstance(error, MemoryError):
            reason = "not enough memory"
        elif isinstance(error, RecursionError):
            reason = "it nests too deeply"
        elif isinstance(error, SyntaxError):  # of the Python that it was compiled to, whose lines say nothing
            line, reason = None, error.msg
        where = self.path_name if line is None else f"{self.path_name}, line {line}"
        return TemplateError(f"{where}: {reason}", hint="--raw sends the prompt without a template")

    @cached_property
    def _takes_system(self) -> bool:
        """Whether a system message comes through; tried once."""
        system: dict[str, object] = {"role": "system", "content": _PROBE}
        text = self._attempt([system, _HELLO], tools=self._no_tools)
        if text is not None:
            return _PROBE in text
        # If it fails without the system message too, something else is wrong: let that show.
        return self._attempt([_HELLO], tools=self._no_tools) is None

    @cached_property
    def _no_tools(self) -> list[object] | None:
        """What stands for no tools: None, or an empty list where the template insists; tried once."""
        wants_list = self._attempt([_HELLO]) is None and self._attempt([_HELLO], tools=[]) is not None
        return [] if wants_list else None

    def _attempt(self, messages: list[dict[str, object]], **variables: object) -> str | None:
        try:
            return self._render(messages, add_generation_prompt=True, **variables)
        except TemplateError as error:
            if isinstance(error.__cause__, LimitExceeded):
                raise
            return None

    @cached_property
    def _arguments_as_text(self) -> bool:
        """Whether the template wants a tool call's arguments as JSON text; tried once."""
        call = ToolCall("f", {_PROBE: 1}, id=_SHORT_ID)
        turns = (Message("user", "hi"), Message("assistant", tool_calls=(call,)))

        def comes_through(*, as_text: bool) -> bool:
            dicts = [_as_dict(turn, arguments_as_text=as_text) for turn in turns]
            text = self._attempt(dicts, tools=self._no_tools) or ""
            # Python's print of a dict shows single quotes; JSON text written as JSON again shows backslashes.
            return _PROBE in text and f"'{_PROBE}'" not in text and f'\\"{_PROBE}' not in text

        return not comes_through(as_text=False) and comes_through(as_text=True)


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """Put the system messages before the first user message's text, or in its place if there is none."""
    system = [message.content for message in messages if message.role == "system" and message.content]
    rest = [message for message in messages if message.role != "system"]
    for index, message in enumerate(rest):
        if message.role == "user":
            rest[index] = replace(message, content="\n\n".join([*system, message.content]))
            return rest
    return [Message("user", "\n\n".join(system)), *rest] if system else rest


def _as_dict(message: Message, *, arguments_as_text: bool) -> dict[str, object]:
    """Return the message as Hugging Face's templates expect it."""
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.thinking is not None:
        turn["reasoning_content"] = turn["thinking"] = message.thinking
    if message.tool_calls:
        turn["tool_calls"] = [
            _call_as_dict(call, arguments_as_text=arguments_as_text) for call in message.tool_calls
        ]
    if message.tool_name is not None:
        turn["name"] = message.tool_name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _call_as_dict(call: ToolCall, *, arguments_as_text: bool) -> dict[str, object]:
    arguments = _plain(call.arguments)
    if arguments_as_text:
        arguments = json.dumps(arguments, ensure_ascii=False)
    made: dict[str, object] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    if call.id is not None:
        made["id"] = call.id
    return made


def _plain(value: object) -> object:
    """Copy a JSON-like value into plain dicts and lists, so that a template meets no other type."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)


def _line_of(traceback: TracebackType | None, name: str) -> int | None:
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == name:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
