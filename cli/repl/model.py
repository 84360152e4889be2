"""What the chat needs of a model, wherever it runs; and the one place where a model of this machine is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..opening import open_llm
from ..options import LoadFlags
from ..terminal import Terminal

if TYPE_CHECKING:
    from ...chat.options import Sourced
    from ...chat.request import ChatRequest
    from ...chat.stream import Event
    from ...llm import LLM

PARTS = ("info", "license", "modelfile", "parameters", "system", "template")
"""What /show knows."""


class ChatModel(Protocol):
    """A model that is talked to."""

    @property
    def name(self) -> str:
        """What it is called, and can be opened by again."""
        ...

    @property
    def backend(self) -> str:
        """What computes."""
        ...

    @property
    def context_length(self) -> int:
        """The most tokens that a conversation may have."""
        ...

    @property
    def can_think(self) -> bool:
        """Whether it has thoughts."""
        ...

    @property
    def notes(self) -> list[str]:
        """What a user should know before relying on it."""
        ...

    @property
    def defaults(self) -> Mapping[str, Sourced]:
        """The sampling options that count where a request sets none."""
        ...

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        """Answer a request event by event, ending with Done."""
        ...

    def end_thinking(self, request_id: str) -> object:
        """Have a reply end its thought; from any thread."""
        ...

    def abort(self, request_id: str) -> object:
        """End a reply; from any thread."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text is, or about how many."""
        ...

    def measure(self, request: ChatRequest) -> tuple[int, int | None]:
        """Return the tokens of a request's prompt, and the budget for its thought if there is one."""
        ...

    def show(self, part: str) -> str:
        """Return one of PARTS as text, empty where there is nothing of it."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Opener(Protocol):
    """Opens models by name."""

    def check(self, name: str) -> None:
        """Raise MullError if there is no model of this name."""
        ...

    def __call__(self, name: str, num_ctx: int | None) -> ChatModel:
        """Open a model with a context of so many tokens or, for None, as it says; raises MullError."""
        ...


class LocalModel:
    """A model that this process computes."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.chat, self.end_thinking, self.abort = llm.chat, llm.end_thinking, llm.abort
        self.measure, self.close = llm.measure, llm.close

    @property
    def name(self) -> str:
        """What it is called."""
        return self._llm.name

    @property
    def backend(self) -> str:
        """What computes."""
        return self._llm.backend

    @property
    def context_length(self) -> int:
        """The most tokens that a conversation may have."""
        return self._llm.context_length

    @property
    def can_think(self) -> bool:
        """Whether it has thoughts."""
        return self._llm.family.can_think

    @property
    def notes(self) -> list[str]:
        """What a user should know before relying on it."""
        return self._llm.notes

    @property
    def defaults(self) -> Mapping[str, Sourced]:
        """The sampling options that count where a request sets none."""
        return self._llm.defaults

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text is."""
        return len(self._llm.tokenizer.encode(text, special=False)) if text else 0

    def show(self, part: str) -> str:
        """Return what `llm show` prints of a model."""
        from ..headers import open_target
        from ..show import Facts, sections

        with open_target(self.name) as (target, checkpoint):
            facts = Facts(target, checkpoint)
            if part == "info":
                return "\n".join(sections(facts, verbose=False))
            return str(getattr(facts, part)())


class LocalOpener:
    """Opens this machine's models as the command line asked."""

    def __init__(self, flags: LoadFlags, terminal: Terminal, *, quiet: bool) -> None:
        self._flags, self._terminal, self._quiet = flags, terminal, quiet

    def check(self, name: str) -> None:
        """Raise ModelNotFound or InvalidName for a model that cannot be opened."""
        from ...registry.target import find_target

        find_target(name)

    def __call__(self, name: str, num_ctx: int | None) -> ChatModel:
        """Load a model."""
        flags = self._flags if num_ctx is None else replace(self._flags, num_ctx=num_ctx)
        return LocalModel(open_llm(name, flags, self._terminal, num_ctx=flags.num_ctx, quiet=self._quiet))
