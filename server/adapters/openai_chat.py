"""/v1/chat/completions: its JSON as our requests, our events as its messages and chunks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...chat.request import ChatRequest
from ...chat.stream import Done, Event, Progress, Reasoning, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from ...errors import InvalidRequest, MullError, NotSupported
from .openai import (
    Head,
    answer_logprobs,
    beside,
    chat_logprob,
    end_of,
    error,
    finish_reason,
    timings,
    usage,
)
from .openai_fields import ChatBody
from .openai_messages import read_messages, read_tools
from .openai_options import Common, check_options, read_common, read_format, seeds


def requests(body: ChatBody, reply_id: str) -> tuple[list[ChatRequest], Common]:
    """Translate a request into one for each of its choices. Raises InvalidRequest that names the field.

    The first is known by `reply_id`, by which its thinking can be ended.
    """
    common = read_common(body)
    _refuse(body)
    _read_limits(body, common.options)
    check_options(common.options)
    messages = read_messages(body.messages, common.ignored)
    tools = read_tools(body.tools or (), body.tool_choice)
    form = read_format(body.response_format, body.format, body.json_schema, body.grammar)
    found = [
        ChatRequest(
            messages=messages,
            tools=tools.tools,
            options=options,
            id=reply_id if number == 0 else f"{reply_id}-{number}",
            format=form,
            tool_choice=tools.choice,
            forced_tool=tools.forced,
            parallel_tool_calls=body.parallel_tool_calls is not False,
            overflow=common.overflow,
        )
        for number, options in enumerate(seeds(common.options, body.n or 1))
    ]
    return found, common


def reply(head: Head, choices: Sequence[Sequence[Event]]) -> dict[str, object]:
    """Join whole replies into one answer."""
    dones = [end_of(events) for events in choices]
    whole = [
        _choice(head, number, events, done)
        for number, (events, done) in enumerate(zip(choices, dones, strict=True))
    ]
    if len(dones) == 1:
        more = beside(dones[0])
    else:  # each choice thinks for itself
        more = {}
        for choice, done in zip(whole, dones, strict=True):
            choice.update(beside(done))
    return {
        **head.fields("chat.completion"),
        "choices": whole,
        "usage": usage([(0, done) for done in dones]),
        "timings": timings(dones[0].usage),
        **more,
    }


class Chunks:
    """One choice as a stream of chunks; the ends of all choices are collected in `dones`."""

    def __init__(self, head: Head, index: int, dones: list[tuple[int, Done]]) -> None:
        self._head = head
        self._index = index
        self._dones = dones
        self._has_begun = False
        self._calls: dict[str, int] = {}  # the id of a call -> its index
        self._open: dict[int, str] = {}  # the event's index of a call -> its id
        self._has_arguments: set[str] = set()
        self._num_whole = 0  # calls that proved whole: the others come as text as well

    def feed(self, event: Event) -> Iterator[dict[str, object]]:
        """Yield what an event becomes."""
        if isinstance(event, Text):
            found = _logprobs(self._head, [event])
            yield from self._delta(
                {"content": event.text}, report={} if found is None else {"logprobs": found}
            )
        elif isinstance(event, Reasoning):
            if self._head.shows_thinking:
                yield from self._delta({"reasoning_content": event.text, "reasoning": event.text})
        elif isinstance(event, ToolCallBegin):
            self._open[event.index] = event.id
            yield from self._begin_call(event.id, event.name)
        elif isinstance(event, ToolArguments):
            yield from self._arguments(self._open[event.index], event.text)
        elif isinstance(event, ToolCallEvent):
            self._num_whole += 1
            call_id = event.call.id or f"call_{self._head.id}_{len(self._calls)}"
            if call_id not in self._calls:
                yield from self._begin_call(call_id, event.call.name)
            if call_id not in self._has_arguments:
                yield from self._arguments(call_id, arguments_text(event.call.arguments))
        elif isinstance(event, Progress):
            if self._head.tells_progress:
                progress = {"total": event.total, "processed": event.done}
                yield from self._delta({}, more={"prompt_progress": progress})
        elif isinstance(event, Done):
            yield from self._end(event)

    def fail(self, failure: MullError) -> Iterator[dict[str, object]]:
        """Yield what tells of an error after the beginning."""
        yield error(failure)

    def _begin_call(self, call_id: str, name: str) -> Iterator[dict[str, object]]:
        index = self._calls[call_id] = len(self._calls)
        call = {
            "index": index,
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield from self._delta({"tool_calls": [call]})

    def _arguments(self, call_id: str, text: str) -> Iterator[dict[str, object]]:
        self._has_arguments.add(call_id)
        piece = {"index": self._calls[call_id], "function": {"arguments": text}}
        yield from self._delta({"tool_calls": [piece]})

    def _end(self, done: Done) -> Iterator[dict[str, object]]:
        self._dones.append((0, done))
        reason = finish_reason(done, calls=self._num_whole > 0)
        yield from self._delta({}, reason, more={"timings": timings(done.usage), **beside(done)})

    def _delta(
        self,
        delta: Mapping[str, object],
        reason: str | None = None,
        report: Mapping[str, object] = {},
        more: Mapping[str, object] = {},
    ) -> Iterator[dict[str, object]]:
        if not self._has_begun:
            self._has_begun = True
            yield self._chunk({"role": "assistant", "content": ""}, None, {}, {})
        yield self._chunk(delta, reason, report, more)

    def _chunk(
        self,
        delta: Mapping[str, object],
        reason: str | None,
        report: Mapping[str, object],
        more: Mapping[str, object],
    ) -> dict[str, object]:
        choice = {"index": self._index, "delta": delta, "finish_reason": reason, **report}
        empty: dict[str, object] = {"usage": None} if self._head.includes_usage else {}
        return {**self._head.fields("chat.completion.chunk"), "choices": [choice], **empty, **more}


def arguments_text(arguments: Mapping[str, object]) -> str:
    """Return a call's arguments as JSON text."""
    return json.dumps(dict(arguments), ensure_ascii=False)


def _refuse(body: ChatBody) -> None:
    """Raise NotSupported for what would change the answer and cannot be done."""
    extra = body.model_extra or {}
    for name, hint in (("functions", "use tools"), ("function_call", "use tool_choice")):
        if extra.get(name):
            raise NotSupported(f"{name} is the old form and not supported", field=name, hint=hint)
    if extra.get("audio") or any(kind != "text" for kind in body.modalities or ()):
        raise NotSupported("this model answers with text only", field="modalities")
    if extra.get("web_search_options"):
        raise NotSupported("there is no web search here", field="web_search_options")
    if body.reasoning_format == "none":
        raise NotSupported("thoughts are always told apart from the answer", field="reasoning_format")


def _read_limits(body: ChatBody, options: dict[str, object]) -> None:
    """Read the fields that this endpoint spells its own way."""
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if limit is not None:
        options["num_predict"] = limit
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", field="top_logprobs")
    if body.logprobs is not None:
        options["logprobs"] = (body.top_logprobs or 0) if body.logprobs else False


def _choice(head: Head, index: int, events: Sequence[Event], done: Done) -> dict[str, object]:
    answer = "".join(event.text for event in events if isinstance(event, Text))
    thought = "".join(event.text for event in events if isinstance(event, Reasoning))
    calls = [
        {
            "id": event.call.id or f"call_{head.id}_{number}",
            "type": "function",
            "function": {"name": event.call.name, "arguments": arguments_text(event.call.arguments)},
        }
        for number, event in enumerate(e for e in events if isinstance(e, ToolCallEvent))
    ]
    message: dict[str, object] = {"role": "assistant", "content": None if calls and not answer else answer}
    if thought and head.shows_thinking:
        message |= {"reasoning_content": thought, "reasoning": thought}
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(head, events),
        "finish_reason": finish_reason(done, calls=bool(calls)),
    }


def _logprobs(head: Head, events: Iterable[Event]) -> dict[str, object] | None:
    """Return the reports on the answer's tokens; None where none were asked for."""
    texts = head.token_bytes
    if texts is None:
        return None
    return {"content": [chat_logprob(one, texts) for one in answer_logprobs(events)], "refusal": None}
