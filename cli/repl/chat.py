"""One chat as it stands: the model, what was said, what is set, and where it is kept."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...chat.history import Conversation
from ...chat.message import Message
from ...chat.request import ChatRequest, Overflow
from ...errors import MullError
from ...runtime.grammar.constraint import Constraint, Kind
from ..signals import interrupting
from ..statistics import Reply
from .log import Log
from .model import ChatModel, Opener
from .turn import Turn


@dataclass(frozen=True, slots=True)
class Entry:
    """A message and its number among the kept ones; used: the context's tokens after it, where that is known."""

    message: Message
    id: int | None = None
    used: int = 0


@dataclass(slots=True)
class Totals:
    """What all replies of this chat have cost: tokens, and of the prompts' tokens those that were found again."""

    replies: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    thinking_tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Setup:
    """What is set for the replies: `options` by their users' names, thinking included."""

    system: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    format: Constraint | None = None
    overflow: Overflow | None = None
    num_ctx: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as it is kept."""
        form = None if self.format is None else [self.format.kind, self.format.text]
        return {
            "system": self.system,
            "options": self.options,
            "format": form,
            "overflow": self.overflow,
            "num_ctx": self.num_ctx,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, object]) -> Setup:
        """Read what was kept; what is not as it should be counts as not set."""
        system, options, form, num_ctx = (
            kept.get(name) for name in ("system", "options", "format", "num_ctx")
        )
        overflow = kept.get("overflow")
        return cls(
            system if isinstance(system, str) else None,
            _options(options) if isinstance(options, dict) else {},
            _constraint(form),
            overflow if overflow in ("error", "oldest", "middle") else None,
            num_ctx if isinstance(num_ctx, int) else None,
        )


class Chat:
    """The state that commands change and replies are asked from."""

    def __init__(self, model: ChatModel, opener: Opener, log: Log, setup: Setup) -> None:
        self.model = model
        self.opener = opener
        self.log = log
        self.setup = setup
        self.entries: list[Entry] = []
        self.attached: list[str] = []  # texts of files that go with the next question
        self.reply: Reply | None = None  # the last one of this chat
        self.totals = Totals()

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said, the system message first."""
        said = tuple(entry.message for entry in self.entries)
        return said if self.setup.system is None else (Message("system", self.setup.system), *said)

    @property
    def used(self) -> int:
        """The tokens of the context that are taken, as far as replies have told."""
        return next((entry.used for entry in reversed(self.entries) if entry.used), 0)

    @property
    def question(self) -> str | None:
        """What was asked last."""
        return next((e.message.content for e in reversed(self.entries) if e.message.role == "user"), None)

    @property
    def answer(self) -> Message | None:
        """What was answered last."""
        return next((e.message for e in reversed(self.entries) if e.message.role == "assistant"), None)

    def request(self, question: str, options: Mapping[str, object] | None = None) -> ChatRequest:
        """Return the request for an answer; options: what counts for this one only."""
        setup = self.setup
        return ChatRequest(
            (*self.messages, Message("user", question)),
            options={**setup.options, **(options or {})},
            id=uuid.uuid4().hex,
            format=setup.format,
            overflow=setup.overflow,
        )

    def with_files(self, text: str) -> str:
        """Put the files that were read before a question."""
        return "\n\n".join([*self.attached, text])

    def begin(self, question: str) -> int | None:
        """Note that a question is asked; return its number among the kept messages."""
        if self.log.conversation is not None:
            self.changed()
        elif self.log.history is not None:
            self.log.start(self.model.name, self.setup.to_json())
        return self.log.ask(self._head, question, self.model.name)

    def keep(self, question: str, asked: int | None, turn: Turn, reply: Reply | None) -> None:
        """Take a question and its answer into the conversation."""
        used = 0
        details: dict[str, object] = {"stopped": turn.stopped, "seconds": round(turn.seconds, 3)}
        if reply is not None:
            usage = reply.done.usage
            used = usage.prompt_tokens + usage.completion_tokens
            details |= {
                "used": used,
                "seed": reply.done.seed,
                "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens,
                "completion_tokens": usage.completion_tokens,
                "thinking_tokens": usage.thinking_tokens,
            }
            self._count(reply)
        answered = self.log.finish(turn.text, turn.thinking or None, details)
        self.entries += [
            Entry(Message("user", question), asked),
            Entry(Message("assistant", turn.text, thinking=turn.thinking or None), answered, used),
        ]
        self.attached = []

    def forget(self) -> None:
        """Take back a question that got no answer."""
        self.log.move(self._head)

    def take_back(self) -> str | None:
        """Drop the last question and what followed; return the question, None if there is none."""
        for at in range(len(self.entries) - 1, -1, -1):
            if self.entries[at].message.role == "user":
                question = self.entries[at].message.content
                self.restore(self.entries[:at])
                return question
        return None

    def restore(self, entries: list[Entry]) -> None:
        """Let the conversation be these messages, all of which were in it once."""
        self.entries = entries
        self.log.move(self._head)

    def clear(self) -> None:
        """Begin a new conversation; the old one stays kept as it is."""
        self.entries, self.attached, self.log.conversation = [], [], None

    def branch(self, title: str = "") -> int | None:
        """Go on in a new conversation that begins as this one; return its number."""
        parent = self.log.conversation
        if parent is None:
            return None
        self.log.start(self.model.name, self.setup.to_json(), parent=parent, head=self._head, title=title)
        return self.log.conversation

    def changed(self) -> None:
        """Note in the kept conversation that something was set."""
        self.log.describe(self.model.name, self.setup.to_json())

    def resume(self, conversation: Conversation) -> str | None:
        """Go on with a kept conversation; return a question that a crash left without an answer."""
        self.entries, self.attached = [], []
        saved = self.log.load(conversation)
        for message in saved:
            used = message.details.get("used")
            self.entries.append(Entry(message.message, message.id, used if isinstance(used, int) else 0))
        if not saved or not saved[-1].open:
            return None
        last = saved[-1]
        if last.message.content:
            history = self.log.history
            if history is not None:
                history.finish(last.id, last.message.content, last.message.thinking, {"stopped": True})
            return None
        # It stays kept until another takes its place.
        *self.entries, question, _ = self.entries
        return question.message.content

    def open_model(self, name: str, num_ctx: int | None = None) -> None:
        """Put another model, or the same with another context, in the place of this one.

        Where that fails the old one is opened again, and the error raised.
        """
        old, old_ctx = self.model.name, self.model.context_length
        self.model.close()
        try:
            self.model = self.opener(name, num_ctx)
        except (MullError, KeyboardInterrupt):
            with interrupting(lambda: True):  # without any model there is no chat
                self.model = self.opener(old, old_ctx)
            raise

    @property
    def _head(self) -> int | None:
        return next((entry.id for entry in reversed(self.entries) if entry.id is not None), None)

    def _count(self, reply: Reply) -> None:
        usage, totals = reply.done.usage, self.totals
        self.reply = reply
        totals.replies += 1
        totals.prompt_tokens += usage.prompt_tokens
        totals.cached_tokens += usage.cached_tokens
        totals.completion_tokens += usage.completion_tokens
        totals.thinking_tokens += usage.thinking_tokens
        totals.seconds += reply.seconds


def _options(kept: dict[str, object]) -> dict[str, object]:
    """Return options as they were: JSON has made texts of the tokens' numbers."""
    bias = kept.get("logit_bias")
    if not isinstance(bias, dict):
        return dict(kept)
    return {**kept, "logit_bias": {int(token): value for token, value in bias.items() if token.isdecimal()}}


def _constraint(form: object) -> Constraint | None:
    kinds: tuple[Kind, ...] = ("json", "schema", "regex", "choice", "gbnf", "lark")
    if not isinstance(form, list) or len(form) != 2 or form[0] not in kinds or not isinstance(form[1], str):
        return None
    return Constraint(form[0], form[1])
