"""A reply as /v1/responses tells it: items that are opened, filled and closed, and the response they add up to."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence

from ...chat.message import Message, ToolCall
from ...chat.stream import Done, Event, Reasoning, Text, ToolArguments, ToolCallBegin, ToolCallEvent
from ...errors import MullError
from ...runtime.sampling.logprobs import TokenLogprob
from .openai import TokenBytes, beside, chat_logprob, error, timings
from .openai_chat import arguments_text
from .openai_messages import read_arguments

Told = tuple[str, dict[str, object]]


class Writer:
    """One response under way; `response` is what it has come to.

        item added ─► part added ─► delta … ─► text done ─► part done ─► item done     (a message, a thought)
        item added ─► arguments delta … ─► arguments done ─► item done                 (a call)

    summarizes: a thought is written where its summary would be; None for token_bytes: no logprobs.
    """

    def __init__(
        self,
        reply_id: str,
        model: str,
        echo: Mapping[str, object],
        *,
        shows_thinking: bool = True,
        summarizes: bool = False,
        token_bytes: TokenBytes | None = None,
    ) -> None:
        self.done: Done | None = None
        self.response: dict[str, object] = {
            "id": reply_id,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **echo,
        }
        self._output: list[dict[str, object]] = []
        self._shows_thinking = shows_thinking
        self._summarizes = summarizes
        self._token_bytes = token_bytes
        self._number = 0
        self._has_begun = False
        self._open: dict[str, object] | None = None  # the message or the thought under way
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, object]] = []
        self._calls: dict[str, dict[str, object]] = {}  # the id of a call -> its item
        self._latest: dict[int, str] = {}  # the event's index of a call -> its id
        self._answer: list[str] = []

    def feed(self, event: Event) -> Iterator[Told]:
        """Yield what an event becomes."""
        if not self._has_begun:
            self._has_begun = True
            yield self._told("response.created", response=dict(self.response))
            yield self._told("response.in_progress", response=dict(self.response))
        if isinstance(event, Text):
            self._answer.append(event.text)
            yield from self._piece("message", event.text, event.logprobs)
        elif isinstance(event, Reasoning):
            if self._shows_thinking:
                yield from self._piece("reasoning", event.text)
        elif isinstance(event, ToolCallBegin):
            self._latest[event.index] = event.id
            yield from self._begin_call(event.id, event.name)
        elif isinstance(event, ToolArguments):
            yield from self._arguments(self._calls[self._latest[event.index]], event.text)
        elif isinstance(event, ToolCallEvent):
            yield from self._end_call(event.call)
        elif isinstance(event, Done):
            yield from self._end(event)

    def fail(self, failure: MullError) -> Iterator[Told]:
        """Yield what tells of an error after the beginning."""
        told = error(failure)["error"]
        assert isinstance(told, dict)
        code = told["code"] or "server_error"
        self.response |= {"status": "failed", "error": {"code": code, "message": told["message"]}}
        self.response["output"] = self._output
        yield self._told("error", code=code, message=told["message"], param=told["param"])
        yield self._told("response.failed", response=self.response)

    def turn(self) -> Message:
        """Return the whole reply as a message of the conversation."""
        thought = "".join(_joined(item) for item in self._output if item["type"] == "reasoning")
        calls = [self._as_call(item) for item in self._calls.values() if item["status"] == "completed"]
        return Message("assistant", "".join(self._answer), thinking=thought or None, tool_calls=tuple(calls))

    def _told(self, kind: str, **fields: object) -> Told:
        number, self._number = self._number, self._number + 1
        return kind, {"type": kind, "sequence_number": number, **fields}

    def _piece(self, kind: str, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[Told]:
        if self._open is None or self._open["type"] != kind:
            yield from self._close()
            yield from self._begin(kind)
        self._pieces.append(text)
        if kind == "message":
            found = (
                []
                if self._token_bytes is None
                else [chat_logprob(one, self._token_bytes) for one in logprobs]
            )
            self._logprobs += found
            yield self._of_open("response.output_text.delta", content_index=0, delta=text, logprobs=found)
        elif self._summarizes:
            yield self._of_open("response.reasoning_summary_text.delta", summary_index=0, delta=text)
        else:
            yield self._of_open("response.reasoning_text.delta", content_index=0, delta=text)

    def _begin(self, kind: str) -> Iterator[Told]:
        """Open a message or a thought."""
        if kind == "message":
            item: dict[str, object] = {"id": _new_id("msg"), "type": kind, "role": "assistant", "content": []}
        else:
            item = {"id": _new_id("rs"), "type": kind, "summary": [], "content": []}
        item["status"] = "in_progress"
        self._open, self._pieces, self._logprobs = item, [], []
        self._output.append(item)
        yield self._told("response.output_item.added", output_index=len(self._output) - 1, item=dict(item))
        if kind == "reasoning" and self._summarizes:
            part: dict[str, object] = {"type": "summary_text", "text": ""}
            yield self._of_open("response.reasoning_summary_part.added", summary_index=0, part=part)
        else:
            part = _text_part("") if kind == "message" else {"type": "reasoning_text", "text": ""}
            yield self._of_open("response.content_part.added", content_index=0, part=part)

    def _close(self, status: str = "completed") -> Iterator[Told]:
        """Close the message or the thought under way, if there is one."""
        item = self._open
        if item is None:
            return
        text = "".join(self._pieces)
        if item["type"] == "message":
            part = _text_part(text, self._logprobs)
            item["content"] = [part]
            yield self._of_open(
                "response.output_text.done", content_index=0, text=text, logprobs=part["logprobs"]
            )
            yield self._of_open("response.content_part.done", content_index=0, part=part)
        elif self._summarizes:
            part = {"type": "summary_text", "text": text}
            item["summary"] = [part]
            yield self._of_open("response.reasoning_summary_text.done", summary_index=0, text=text)
            yield self._of_open("response.reasoning_summary_part.done", summary_index=0, part=part)
        else:
            part = {"type": "reasoning_text", "text": text}
            item["content"] = [part]
            yield self._of_open("response.reasoning_text.done", content_index=0, text=text)
            yield self._of_open("response.content_part.done", content_index=0, part=part)
        item["status"] = status
        yield self._told("response.output_item.done", output_index=self._output.index(item), item=item)
        self._open = None

    def _of_open(self, kind: str, **fields: object) -> Told:
        """Return an event about the item under way, which is the last."""
        assert self._open is not None
        return self._told(kind, item_id=self._open["id"], output_index=len(self._output) - 1, **fields)

    def _begin_call(self, call_id: str, name: str) -> Iterator[Told]:
        yield from self._close()
        item: dict[str, object] = {
            "id": _new_id("fc"), "type": "function_call", "status": "in_progress", "call_id": call_id,
            "name": name, "arguments": "",
        }  # fmt: skip
        self._calls[call_id] = item
        self._output.append(item)
        yield self._told("response.output_item.added", output_index=len(self._output) - 1, item=dict(item))

    def _arguments(self, item: dict[str, object], text: str) -> Iterator[Told]:
        item["arguments"] = f"{item['arguments']}{text}"
        yield self._of_call("response.function_call_arguments.delta", item, delta=text)

    def _end_call(self, call: ToolCall) -> Iterator[Told]:
        call_id = call.id or _new_id("call")
        if call_id not in self._calls:
            yield from self._begin_call(call_id, call.name)
        item = self._calls[call_id]
        if not item["arguments"]:
            yield from self._arguments(item, arguments_text(call.arguments))
        yield from self._finish_call(item, "completed")

    def _finish_call(self, item: dict[str, object], status: str) -> Iterator[Told]:
        item["status"] = status
        fields = {"arguments": item["arguments"], "name": item["name"]}
        yield self._of_call("response.function_call_arguments.done", item, **fields)
        yield self._told("response.output_item.done", output_index=self._output.index(item), item=item)

    def _of_call(self, kind: str, item: dict[str, object], **fields: object) -> Told:
        return self._told(kind, item_id=item["id"], output_index=self._output.index(item), **fields)

    def _end(self, done: Done) -> Iterator[Told]:
        self.done = done
        is_cut = done.reason in ("length", "repeat")
        yield from self._close("incomplete" if is_cut else "completed")
        # A call that proved broken has come as text too, and must not be taken for one.
        broken = [item for item in self._calls.values() if item["status"] != "completed"]
        for item in broken:
            yield from self._finish_call(item, "incomplete")
        usage = done.usage
        self.response |= {
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "completed_at": int(time.time()),
            "output": [item for item in self._output if item not in broken],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
            "timings": timings(usage),
            **beside(done),
        }
        yield self._told("response.incomplete" if is_cut else "response.completed", response=self.response)

    def _as_call(self, item: Mapping[str, object]) -> ToolCall:
        return ToolCall(
            str(item["name"]), read_arguments(item["arguments"], "arguments"), str(item["call_id"])
        )


def _text_part(text: str, logprobs: list[dict[str, object]] | None = None) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def _joined(item: Mapping[str, object]) -> str:
    """Return the text of a thought."""
    parts = item["summary"] or item["content"]
    assert isinstance(parts, list)
    return "".join(str(part["text"]) for part in parts)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
