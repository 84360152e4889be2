"""/v1/completions: prompts that no template touches, and what follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...chat.request import ChatRequest
from ...chat.stream import Done, Event, Reasoning, Text
from ...errors import InvalidRequest, MullError, NotSupported
from .openai import (
    Head,
    TokenBytes,
    answer_logprobs,
    beside,
    end_of,
    error,
    finish_reason,
    finite,
    timings,
    usage,
)
from .openai_fields import MOST_CHOICES, CompletionBody
from .openai_options import Common, check_options, read_common, read_format, seeds

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: text, or tokens."""

    text: str = ""
    ids: tuple[int, ...] = ()


def requests(body: CompletionBody, reply_id: str) -> tuple[list[tuple[int, ChatRequest]], Common]:
    """Translate a request into one for each choice, each with the number of its prompt.

    Raises InvalidRequest that names the field.
    """
    common = read_common(body)
    _refuse(body)
    if body.max_tokens is not None:
        common.options["num_predict"] = body.max_tokens
    if body.logprobs is not None:
        common.options["logprobs"] = body.logprobs
    check_options(common.options)
    form = read_format(None, body.format, body.json_schema, body.grammar)
    many = prompts(body)
    count = body.n or 1
    if len(many) * count > MOST_CHOICES:
        raise InvalidRequest(
            f"{len(many)} prompts with n={count} are more than {MOST_CHOICES} choices", field="n"
        )
    found: list[tuple[int, ChatRequest]] = []
    for number, prompt in enumerate(many):
        for options in seeds(common.options, count):
            one = ChatRequest(
                raw=prompt.text,
                context=prompt.ids,
                options=options,
                id=f"{reply_id}-{len(found)}" if found else reply_id,
                format=form,
                overflow=common.overflow,
            )
            found.append((number, one))
    return found, common


def prompts(body: CompletionBody) -> list[Prompt]:
    """Return the prompts: one text, several, one list of tokens, or several."""
    given = body.prompt
    if isinstance(given, str):
        return [Prompt(given)]
    if not given:
        raise InvalidRequest("there is no prompt", field="prompt")
    ids = [part for part in given if isinstance(part, int)]
    if ids:
        return [_tokens(ids)]
    return [
        Prompt(part) if isinstance(part, str) else _tokens(part)
        for part in given
        if not isinstance(part, int)
    ]


def echoes(body: CompletionBody, decode: Decode) -> list[str]:
    """Return what goes before the answer to each prompt: the prompt itself, if that was asked for."""
    many = prompts(body)
    if not body.echo:
        return ["" for _ in many]
    return [decode(prompt.ids) if prompt.ids else prompt.text for prompt in many]


def reply(
    head: Head, choices: Sequence[tuple[int, Sequence[Event]]], before: Sequence[str]
) -> dict[str, object]:
    """Join whole replies into one answer; `before` is put before the choices of each prompt."""
    dones = [(number, end_of(events)) for number, events in choices]
    whole = []
    for index, ((number, events), (_, done)) in enumerate(zip(choices, dones, strict=True)):
        text = "".join(event.text for event in events if isinstance(event, Text))
        thought = "".join(event.text for event in events if isinstance(event, Reasoning))
        choice: dict[str, object] = {
            "index": index,
            "text": before[number] + text,
            "logprobs": _logprobs(head, events, len(before[number])),
            "finish_reason": finish_reason(done, calls=False),
        }
        if thought and head.shows_thinking:
            choice["reasoning_content"] = thought
        if len(choices) > 1:
            choice.update(beside(done))
        whole.append(choice)
    return {
        **head.fields("text_completion"),
        "choices": whole,
        "usage": usage(dones),
        "timings": timings(dones[0][1].usage),
        **(beside(dones[0][1]) if len(dones) == 1 else {}),
    }


class Chunks:
    """One choice as a stream; the ends of all choices are collected in `dones` with the number of their prompt."""

    def __init__(
        self, head: Head, index: int, prompt: int, before: str, dones: list[tuple[int, Done]]
    ) -> None:
        self._head = head
        self._index = index
        self._prompt = prompt
        self._before = before
        self._offset = len(before)
        self._dones = dones

    def feed(self, event: Event) -> Iterator[dict[str, object]]:
        """Yield what an event becomes."""
        if isinstance(event, Text):
            report = _logprobs(self._head, [event], self._offset)
            self._offset += len(event.text)
            yield self._chunk(event.text, {"logprobs": report})
        elif isinstance(event, Reasoning):
            if self._head.shows_thinking:
                yield self._chunk("", {"reasoning_content": event.text})
        elif isinstance(event, Done):
            self._dones.append((self._prompt, event))
            more = {"timings": timings(event.usage), **beside(event)}
            choice = {"finish_reason": finish_reason(event, calls=False)}
            yield self._chunk("", choice, more)

    def fail(self, failure: MullError) -> Iterator[dict[str, object]]:
        """Yield what tells of an error after the beginning."""
        yield error(failure)

    def _chunk(
        self, text: str, choice: Mapping[str, object] = {}, more: Mapping[str, object] = {}
    ) -> dict[str, object]:
        text, self._before = self._before + text, ""
        empty: dict[str, object] = {"usage": None} if self._head.includes_usage else {}
        whole = {"index": self._index, "text": text, "logprobs": None, "finish_reason": None, **choice}
        return {**self._head.fields("text_completion"), "choices": [whole], **empty, **more}


def _tokens(ids: Sequence[int]) -> Prompt:
    if not ids:
        raise InvalidRequest("a prompt of tokens needs at least one", field="prompt")
    if any(token < 0 or token >= 2**31 for token in ids):
        raise InvalidRequest("the prompt holds a number that is no token", field="prompt")
    return Prompt(ids=tuple(ids))


def _refuse(body: CompletionBody) -> None:
    """Raise NotSupported for what would change the answer and cannot be done."""
    if body.suffix:
        raise NotSupported("text cannot be inserted before a suffix", field="suffix", hint="leave suffix out")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise NotSupported("best_of must be n: every answer is returned", field="best_of")
    if body.echo and body.logprobs is not None:
        raise NotSupported("echo comes without logprobs: those of a prompt are not computed", field="echo")


def _logprobs(head: Head, events: Iterable[Event], offset: int) -> dict[str, object] | None:
    """Return the reports on the answer's tokens in the form of /v1/completions; None where none were asked for."""
    texts = head.token_bytes
    if texts is None:
        return None
    found = answer_logprobs(events)
    tokens = [_text(texts, one.token) for one in found]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [finite(one.logprob) for one in found],
        "top_logprobs": [
            {_text(texts, token): finite(logprob) for token, logprob in one.top} for one in found
        ],
        "text_offset": offsets,
    }


def _text(texts: TokenBytes, token: int) -> str:
    return texts(token).decode("utf-8", "replace")
