"""What llama.cpp's server has beside OpenAI's: its own completion, and a look at a model's tokens and template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...chat.extensions import extensions
from ...chat.message import Message
from ...chat.options import OPTIONS
from ...chat.request import ChatRequest
from ...chat.stream import Done, Event, Reasoning, Text, Usage
from ...errors import InvalidRequest, MullError
from ...runtime.grammar.constraint import Constraint, parse_format, parse_grammar
from ...runtime.sampling.logprobs import TokenLogprob
from .llamacpp_fields import CompletionBody, TemplateBody

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    501: "not_supported_error", 503: "unavailable_error",
}  # fmt: skip
_NAMED = (*CompletionBody.model_fields, "model")
TextOf = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the fields that have no meaning here."""

    chat: ChatRequest
    ignored: tuple[str, ...] = ()


def request(body: CompletionBody, encode: Callable[[str], Sequence[int]]) -> Asked:
    """Translate a completion; encode: tokens of the text parts of a prompt of parts. Raises InvalidRequest."""
    extra = dict(body.model_extra or {})
    options: dict[str, object] = {
        name: extra.pop(name) for name in OPTIONS if name not in _NAMED and extra.get(name) is not None
    }
    if body.n_predict is not None:
        options["num_predict"] = body.n_predict
    if body.stop:
        options["stop"] = body.stop
    if body.n_probs:
        options["logprobs"] = body.n_probs
    if body.logit_bias:
        options["logit_bias"] = _bias(body.logit_bias, encode)
    if isinstance(body.prompt, str):
        raw, context = body.prompt, list[int]()
    else:
        raw, context = "", list(_parts(body.prompt, encode))
    chat = ChatRequest(raw=raw, context=tuple(context), options=options, format=_format(body))
    return Asked(chat, tuple(extra))


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
    kind = _TYPES.get(failure.status, "server_error")
    return {"error": {"code": failure.status, "message": failure.message, "type": kind}}


class Chunks:
    """One completion, as a stream of objects or, joined, as one."""

    def __init__(
        self, model: str, text_of: TextOf, *, return_tokens: bool = False, stream: bool = True
    ) -> None:
        self._model = model
        self._text_of = text_of
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
                    "index": 0,
                    "content": "",
                    name: event.text,
                    "tokens": [],
                    "stop": False,
                    "id_slot": -1,
                }
        elif isinstance(event, Done):
            yield self._end(event)

    def fail(self, failure: MullError) -> Iterator[Mapping[str, object]]:
        """Return what tells of an error after the beginning."""
        yield error(failure)

    def _end(self, done: Done) -> dict[str, object]:
        usage = done.usage
        end: dict[str, object] = {
            "index": 0,
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
        text = self._text_of(token)
        return {"id": token, "token": text, "bytes": list(text.encode()), "logprob": max(logprob, -9999.0)}


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


def _parts(prompt: list[int | str], encode: Callable[[str], Sequence[int]]) -> Iterator[int]:
    for part in prompt:
        if isinstance(part, str):
            yield from encode(part)
        else:
            yield part


def _bias(bias: object, encode: Callable[[str], Sequence[int]]) -> dict[int, float]:
    """Read `[[token or text, number or false], …]` or `{token or text: number}`."""
    found: dict[int, float] = {}
    pairs = list(bias.items()) if isinstance(bias, Mapping) else bias
    assert isinstance(pairs, list)
    for pair in pairs:
        if len(pair) != 2:
            raise InvalidRequest("logit_bias takes pairs of a token and a number", field="logit_bias")
        token, value = pair
        if value is True or isinstance(value, str):
            raise InvalidRequest("a bias must be a number, or false", field="logit_bias")
        weight = float("-inf") if value is False else float(value)
        is_id = isinstance(token, int) or (isinstance(bias, Mapping) and str(token).isdecimal())
        for one in [int(token)] if is_id else encode(str(token)):
            found[one] = weight
    return found


def _format(body: CompletionBody) -> Constraint | None:
    if body.grammar and body.json_schema is not None:
        raise InvalidRequest("grammar and json_schema exclude each other", field="grammar")
    if body.grammar:
        return parse_grammar(body.grammar)
    return None if body.json_schema is None else parse_format(body.json_schema)
