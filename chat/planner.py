"""From what was asked of a model's thoughts to a plan in the ids of its vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from ..errors import InvalidRequest, NotSupported
from ..runtime.thinking.plan import Marks, ThinkingPlan
from .families.family import Family
from .options import Sourced
from .request import ChatRequest
from .thinking import THINK_OPTIONS, ThinkOptions, merge_thinking, resolve, think_options
from .tools import is_forced

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_CHINESE_SHARE = 0.3
_NUDGE = "\nLet me try a different approach."
_SPACES = 2
# In tokens. A vocabulary that takes more for a family's sentence was not made for a model that knows it.
_LONGEST_MESSAGE = 32
_ANSWER_PREFIX = "The final answer is "
_NOT_ENFORCED = "limits on thinking have no effect: this vocabulary cannot spell the model's tags"


class Vocabulary(Protocol):
    """What planning needs of a tokenizer."""

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def token_id(self, text: str) -> int | None: ...


class Planner:
    """Writes plans for one model.

    parameters: what its Modelfile sets; budget, most: what the environment sets (`think`, and the most tokens allowed).
    """

    def __init__(
        self,
        family: Family,
        tokenizer: Vocabulary,
        parameters: Mapping[str, object],
        budget: str | None = None,
        most: str | None = None,
    ) -> None:
        self.family = family
        self._tokenizer = tokenizer
        usual = {} if budget is None else {"think": _checked_budget(budget)}
        self._usual = (_sourced(usual, "environment"), _sourced(_only_thinking(parameters), "modelfile"))
        self._most = _ceiling(most)

    def options(self, request: ChatRequest) -> ThinkOptions:
        """Return how a request is to think: as it says, else the Modelfile, else the environment.

        Raises InvalidRequest, and NotSupported where the request asks for what the model cannot do.
        """
        if self.family.can_think:
            return think_options({name: found.value for name, found in self.sourced(request).items()})
        if think_options(_asked(request)).asks:
            raise NotSupported(
                "this model cannot think",
                field="think",
                hint="leave out --think and --think-budget, or take a model that thinks",
            )
        return ThinkOptions()

    def sourced(self, request: ChatRequest) -> dict[str, Sourced]:
        """Return what holds for a request of the options that somebody set, and who did."""
        return merge_thinking(*self._usual, _sourced(_asked(request), "request"))

    @cached_property
    def marks(self) -> Marks | None:
        """The family's tags in this vocabulary; None without tags, or if it cannot spell them."""
        family = self.family
        if family.open_tag is None or family.close_tag is None:
            return None
        inside, close = self._encode(family.close_lead), self._encode(family.forced_close)
        if self._tokenizer.decode(close).strip() != family.forced_close.strip():
            return None
        ends = self._tokenizer.token_id(family.close_tag.strip())
        return Marks(
            opens=(family.open_tag.strip(),),
            ends=tuple(tag.strip() for tag in family.ends),
            close=(*inside, *close),
            close_inside=len(inside),
            end_id=ends if ends is not None else self._encode(family.ends[0].strip())[0],
            single=self._ids((family.open_tag, *family.ends, *family.unanswerable)),
            tools=family.calls,
            tool_ends=family.tool_ends_thought,
            tool_ids=tuple(self._ids(family.calls)),
            interleaved=family.interleaved,
            header_begins=self._ids(family.header_begins),
            header_ends=self._ids(family.header_ends),
            hidden=self._ids(family.hidden),
        )

    def plan(
        self, request: ChatRequest, options: ThinkOptions, window: int, *, opened: bool
    ) -> tuple[ThinkingPlan | None, tuple[str, ...]]:
        """Return the plan for the reply to a request, and what the user should know of it.

        window: the tokens left for it; opened: the prompt ends within a thought. There is no plan for a model that
        cannot think, nor for a raw prompt that says nothing of thinking.
        """
        raw = request.raw is not None and not opened and options.mode == "auto" and self._most is None
        if not self.family.can_think or raw:
            return None, ()
        marks = self.marks
        if marks is None:
            return None, (_NOT_ENFORCED,) if options.asks or self._most is not None else ()
        # A model that opens its thought itself may put white space around the tag.
        opening = 0 if opened else len(self._encode(str(self.family.open_tag))) + _SPACES
        limits = resolve(options, window, len(marks.close) + opening, self._most)
        question = request.messages[-1].content if request.messages else ""
        is_limited = limits.requested is not None or self._most is not None
        spent = min(self._spent(request), limits.budget) if is_limited else 0
        if spent:
            limits.notes.append(f"{spent} tokens of the budget were thought earlier in this turn")
        is_call = is_forced(request) and self.family.tools is not None and self.family.tools.is_writable
        if is_call:
            marks = self._for_calls(marks)
        plan = ThinkingPlan(
            marks,
            budget=limits.budget - spent,
            opened=opened,
            requested=limits.requested,
            message=self._message(options),
            minimum=limits.minimum,
            rounds=limits.rounds,
            waits=self._waits(options, question),
            soft=options.soft,
            loop=options.loop,
            nudge=self._encode(_NUDGE) if options.nudge else (),
            exit=options.exit,
            answer_prefix=self._encode(self.family.answer_prefix or _ANSWER_PREFIX) if options.exit else (),
            lead=self._lead(request, is_call=is_call),
            is_final=not is_call,
        )
        return plan, tuple(limits.notes)

    def _lead(self, request: ChatRequest, *, is_call: bool) -> tuple[int, ...]:
        """Return what is put after a thought's natural end, where what must come has a header."""
        family = self.family
        if is_call and family.header_begins and family.call_close is not None:
            return self._encode(family.call_close.removeprefix(family.close_tag or ""))
        return () if request.format is None or is_call else self._encode(family.answer_header)

    def _for_calls(self, marks: Marks) -> Marks:
        """Return marks whose forced end leads to a call."""
        if self.family.call_close is None:
            return marks
        inside = self._encode(self.family.close_lead)
        return replace(
            marks, close=(*inside, *self._encode(self.family.call_close)), close_inside=len(inside)
        )

    def _spent(self, request: ChatRequest) -> int:
        """Return the tokens that were thought since the user spoke last: a turn has one budget, however many calls."""
        asked = [index for index, message in enumerate(request.messages) if message.role == "user"]
        turn = request.messages[asked[-1] + 1 :] if asked else ()
        return sum(len(self._encode(message.thinking)) for message in turn if message.thinking)

    def _message(self, options: ThinkOptions) -> tuple[int, ...]:
        """Return what is said before a forced end: the user's words, or the family's where this model may know them."""
        if options.message is not None:
            return self._encode(self._without_tags("think_message", options.message))
        message = self._encode(self.family.message)
        return message if len(message) <= _LONGEST_MESSAGE else ()

    def _waits(self, options: ThinkOptions, question: str) -> tuple[tuple[int, ...], ...]:
        if options.wait is not None:
            return (self._encode(self._without_tags("think_wait", options.wait)),) if options.wait else ()
        chinese = len(_CHINESE.findall(question)) > _CHINESE_SHARE * len(question)
        return tuple(
            self._encode(text) for text in (self.family.chinese_waits if chinese else self.family.waits)
        )

    def _without_tags(self, name: str, text: str) -> str:
        """Return words that are put into a thought; raises InvalidRequest for those that would end it."""
        tags = (self.family.open_tag, *self.family.ends, *self.family.header_begins)
        found = next((tag.strip() for tag in tags if tag and tag.strip() in text), None)
        if found is not None:
            raise InvalidRequest(f"{name} must be words, not the model's own {found}", field=name)
        return text

    def _ids(self, texts: Iterable[str]) -> frozenset[int]:
        """Return the ids of those texts that are one token."""
        found = (self._tokenizer.token_id(text.strip()) for text in texts)
        return frozenset(token for token in found if token is not None)

    def _encode(self, text: str) -> tuple[int, ...]:
        """Tokenize a text that continues another: some vocabularies put a space before the first of a text."""
        if not text:
            return ()
        before = self._tokenizer.encode(".", special=False)
        whole = self._tokenizer.encode(f".{text}", special=False, parse_special=True)
        if whole[: len(before)] == before:
            return tuple(whole[len(before) :])
        return tuple(self._tokenizer.encode(text, special=False, parse_special=True))


def _asked(request: ChatRequest) -> dict[str, object]:
    """Return what a request says of thinking."""
    asked = _only_thinking(request.options)
    return asked if request.think is None else {**asked, "think": request.think}


def _only_thinking(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name in THINK_OPTIONS}


def _sourced(options: Mapping[str, object], source: str) -> dict[str, Sourced]:
    return {name: Sourced(value, source) for name, value in options.items()}


def _checked_budget(text: str) -> str:
    """Return what the environment says of `think`; raises InvalidRequest."""
    try:
        think_options({"think": text})
    except InvalidRequest as error:
        raise InvalidRequest(error.message.replace("think", "MULL_THINK_BUDGET", 1), field="think") from None
    return text


def _ceiling(text: str | None) -> int | None:
    """Return the most tokens of thought that the environment allows; raises InvalidRequest."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise InvalidRequest(f"MULL_THINK_MAX must be a number of tokens, not {text!r}", field="think_max")
    return int(text)
