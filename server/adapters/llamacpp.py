"""What llama.cpp's server has beside OpenAI's: its own completion, and a look at a model's tokens and template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ...chat.extensions import extensions
from ...chat.message import Message
from ...chat.options import OPTIONS
from ...chat.request import ChatRequest
from ...chat.stream import Done, Event, Reasoning, Text, Usage
from ...errors import ContextExceeded, InvalidRequest, MullError
from ...runtime.grammar.constraint import Constraint, parse_format, parse_grammar
from ...runtime.sampling.logprobs import TokenLogprob
from .llamacpp_fields import CompletionBody, Prompts, TemplateBody
from .openai import TokenBytes, finite
from .openai_fields import MOST_CHOICES
from .option_values import Encode, read_bias, read_stops

_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 501: "not_supported_error",
    503: "unavailable_error",
}  # fmt: skip
_NAMED = (*CompletionBody.model_fields, "model")


class ReplyNotFound(MullError):
    """No reply of this id is under way."""

    status = 404


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for each prompt, and the fields that have no meaning here."""

    chats: tuple[ChatRequest, ...]
    ignored: tuple[str, ...] = ()


def request(body: CompletionBody, encode: Encode) -> Asked:
    """Translate a completion; encode: tokens of the text parts of a prompt of parts. Raises InvalidRequest."""
    extra = dict(body.model_extra or {})
    options: dict[str, object] = {
        name: extra.pop(name) for name in OPTIONS if name not in _NAMED and extra.get(name) is not None
    }
    if body.n_predict is not None:
        options["num_predict"] = body.n_predict
    if body.stop is not None:
        options["stop"] = read_stops(body.stop, "stop")
    if body.n_probs:
        options["logprobs"] = body.n_probs
    if body.logit_bias:
        options["logit_bias"] = read_bias(body.logit_bias, "logit_bias", encode)
    form = _format(body)
    chats = tuple(
        ChatRequest(raw=raw, context=context, options=options, format=form)
        for raw, context in _prompts(body.prompt, encode)
    )
    return Asked(chats, tuple(extra))


def conversation(body: TemplateBody) -> ChatRequest:
    """Translate the messages of /apply-template. Raises InvalidRequest."""
    messages = []
    for at, message in enumerate(body.messages):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidRequest(
                f"messages.{at} needs a role and a content, both texts", field=f"messages.{at}"
            )
        messages.append(Message(role, content))  # type: ignore[arg-type]  # it checks its role itself
    return ChatRequest(tuple(messages), tools=tuple(body.tools))


def error(failure: MullError) -> dict[str, object]:
    """Return the body that tells of an error."""
    told: dict[str, object] = {"code": failure.status, "message": failure.message}
    if failure.hint is not None:
        told["message"] = f"{failure.message} ({failure.hint})"
    told["type"] = _TYPES.get(
        failure.status, "invalid_request_error" if failure.status < 500 else "server_error"
    )
    if isinstance(failure, ContextExceeded):
        told["type"] = "exceed_context_size_error"
        if failure.tokens is not None:
            told["n_prompt_tokens"], told["n_ctx"] = failure.tokens
    return {"error": told}


class Chunks:
    """The completion of one prompt, of this index, as a stream of objects or, joined, as one."""

    def __init__(
        self,
        model: str,
        token_bytes: TokenBytes,
        index: int = 0,
        *,
        return_tokens: bool = False,
        stream: bool = True,
    ) -> None:
        self._model = model
        self._token_bytes = token_bytes
        self._index = index
        self._return_tokens = return_tokens
        self._stream = stream
        self._content: list[str] = []
        self._thought: list[str] = []

    def feed(self, event: Event) -> Iterator[Mapping[str, object]]:
        """Return what an event becomes; a thought is `reasoning_content`."""
        if isinstance(event, Text | Reasoning):
            (self._content if isinstance(event, Text) else self._thought).append(event.text)
            name = "content" if isinstance(event, Text) else "reasoning_content"
            if self._stream:
                yield {
                    "index": self._index,
                    "content": "",
                    name: event.text,
                    "tokens": [],
                    "stop": False,
                    "id_slot": -1,
                }
        elif isinstance(event, Done):
            yield self._end(event)

    def whole(self, events: Iterable[Event]) -> Mapping[str, object]:
        """Return a whole reply as one object."""
        *_, end = (message for event in events for message in self.feed(event))
        return end

    def fail(self, failure: MullError) -> Iterator[Mapping[str, object]]:
        """Return what tells of an error after the beginning."""
        yield error(failure)

    def _end(self, done: Done) -> dict[str, object]:
        usage = done.usage
        end: dict[str, object] = {
            "index": self._index,
            "content": "" if self._stream else "".join(self._content),
            "tokens": list(done.token_ids) if self._return_tokens else [],
            "id_slot": -1,
            "stop": True,
            "model": self._model,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.cached_tokens,
            "truncated": done.truncated is not None,
            "stop_type": _stop_type(done),
            "stopping_word": done.stop or "",
            "generation_settings": {"seed": done.seed},
            "timings": timings(usage),
            **{name: value for name, value in extensions(done).items() if name != "truncated"},
        }
        if self._thought and not self._stream:
            end["reasoning_content"] = "".join(self._thought)
        if done.logprobs:
            end["completion_probabilities"] = [self._probability(drawn) for drawn in done.logprobs]
        return end

    def _probability(self, drawn: TokenLogprob) -> dict[str, object]:
        return {
            **self._entry(drawn.token, drawn.logprob),
            "top_logprobs": [self._entry(token, logprob) for token, logprob in drawn.top],
        }

    def _entry(self, token: int, logprob: float) -> dict[str, object]:
        raw = self._token_bytes(token)
        text = raw.decode("utf-8", "replace")
        return {"id": token, "token": text, "bytes": list(raw), "logprob": finite(logprob)}


def timings(usage: Usage) -> dict[str, object]:
    """Return llama.cpp's figures of a reply."""
    computed = usage.prompt_tokens - usage.cached_tokens
    found: dict[str, object] = {"cache_n": usage.cached_tokens}
    for name, count, ms in (
        ("prompt", computed, usage.prompt_ms),
        ("predicted", usage.completion_tokens, usage.eval_ms),
    ):
        found |= {
            f"{name}_n": count,
            f"{name}_ms": round(ms, 3),
            f"{name}_per_token_ms": round(ms / count, 3) if count else 0.0,
            f"{name}_per_second": round(1000 * count / ms, 3) if ms else 0.0,
        }
    if usage.drafted_tokens:
        found |= {"draft_n": usage.drafted_tokens, "draft_n_accepted": usage.accepted_tokens}
    return found


def _stop_type(done: Done) -> str:
    if done.stop is not None:
        return "word"
    return {"stop": "eos", "length": "limit"}.get(done.reason, "none")


def _prompts(prompt: Prompts, encode: Encode) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each prompt as a text or as tokens: a list without a number in it is one of prompts."""
    if isinstance(prompt, str):
        yield prompt, ()
    elif any(isinstance(part, int) for part in prompt):
        yield "", tuple(_tokens(prompt, encode))
    elif not 1 <= len(prompt) <= MOST_CHOICES:
        raise InvalidRequest(f"prompt takes 1 to {MOST_CHOICES} prompts, not {len(prompt)}", field="prompt")
    else:
        for one in prompt:
            if isinstance(one, str):
                yield one, ()
            elif isinstance(one, list):
                if not any(isinstance(part, int) for part in one):
                    raise InvalidRequest("a prompt within a list is a text, or has tokens", field="prompt")
                yield "", tuple(_tokens(one, encode))


def _tokens(parts: Iterable[object], encode: Encode) -> Iterator[int]:
    """Yield the tokens of a prompt that is made of tokens and texts."""
    for part in parts:
        if isinstance(part, int):
            yield part
        elif isinstance(part, str):
            yield from encode(part)
        else:
            raise InvalidRequest("a prompt of tokens and texts holds no lists", field="prompt")


def _format(body: CompletionBody) -> Constraint | None:
    if body.grammar and body.json_schema is not None:
        raise InvalidRequest("grammar and json_schema exclude each other", field="grammar")
    if body.grammar:
        return parse_grammar(body.grammar)
    return None if body.json_schema is None else parse_format(body.json_schema)
