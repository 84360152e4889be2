"""A model that a running server computes, with the interface of one that is loaded here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from http.client import HTTPConnection
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING

from ..chat.options import Sourced
from ..chat.request import ChatRequest
from ..chat.stream import Done, Event
from ..errors import MullError
from ..registry.target import Target
from ..server.adapters.native import read_event, request_json
from .connection import Json, NoServer, Server, running_server
from .options import LoadFlags

if TYPE_CHECKING:
    from ..runtime.tokenizer.tokenizer import Tokenizer
    from ..settings import Settings


class RemoteLLM:
    """What commands need of an LLM, done by a server on this machine, whose store is the same.

    Closing the iterator that `chat` returns stops the answer; closing this leaves the model with the server.
    """

    def __init__(self, name: str, server: Server, target: Target, facts: Json, num_ctx: int | None) -> None:
        self.contents = target.contents
        self.name = name
        self.context_length = _whole(facts["context_length"])
        self.backend = f"{facts['backend']}, by the server at {server.url}"
        self.notes = _texts(facts["notes"])
        self.family = SimpleNamespace(can_think=facts["can_think"] is True)
        self.defaults = _defaults(facts["defaults"])
        self._server = server
        self._target = target
        self._num_ctx = num_ctx

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own, read from this machine's store."""
        from ..models.checkpoint.open import open_checkpoint
        from ..runtime.tokenizer.load import load_tokenizer

        checkpoint = open_checkpoint(self._target.path)
        try:
            return load_tokenizer(checkpoint)
        finally:
            checkpoint.close()

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        """Answer a request event by event, ending with Done; what is wrong with it is raised at the first event."""
        connection = self._server.open(None)
        self._server.post(connection, "POST", "/mull/chat", self._body(request))
        return _Events(self._server, connection)

    def measure(self, request: ChatRequest) -> tuple[int, int | None]:
        """Return the tokens of a request's prompt, and the most that its thought may take."""
        told = self._server.ask("POST", "/mull/measure", self._body(request), timeout=None)
        budget = told["budget"]
        return _whole(told["tokens"]), None if budget is None else _whole(budget)

    def end_thinking(self, request_id: str) -> bool:
        """Have the reply to the request of this id answer now, if it is still thinking."""
        self._server.ask("POST", "/mull/end_thinking", {"id": request_id})
        return True

    def abort(self, request_id: str) -> None:
        """End the reply to the request of this id."""
        self._server.ask("POST", "/mull/abort", {"id": request_id})

    def close(self) -> None:
        """Do nothing: the server keeps the model as long as it keeps any."""

    def __enter__(self) -> RemoteLLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self, request: ChatRequest) -> Json:
        return {"model": self.name, "num_ctx": self._num_ctx, "request": request_json(request)}


class _Events(Iterator[Event]):
    """The events of one reply; closing it early tells the server by closing the connection."""

    def __init__(self, server: Server, connection: HTTPConnection) -> None:
        self._server = server
        self._connection = connection
        self._lines: Iterator[Json] | None = None
        self._has_ended = False

    def __next__(self) -> Event:
        try:
            if self._lines is None:
                self._lines = self._server.lines(self._server.answer(self._connection))
            line = next(self._lines, None)
            if line is None and not self._has_ended:  # http.client takes a lost connection for the end
                raise NoServer(f"the server at {self._server.url} ended in the middle of the answer")
            if line is None:
                raise StopIteration
            event = read_event(line)
        except BaseException:
            self.close()
            raise
        self._has_ended = isinstance(event, Done)
        return event

    def close(self) -> None:
        """Want no more events."""
        self._connection.close()


def open_remote(
    model: str, flags: LoadFlags, target: Target, settings: Settings, num_ctx: int | None
) -> RemoteLLM | None:
    """Return a model of the server that runs on this machine; None where there is none, or where it would do something
    else than this process: files without a name, another version of the model, other ways to load it.

    Raises what the server says is wrong with the model.
    """
    says = settings.cpu or settings.think_budget or settings.think_max
    if target.entry is None or says or not _can_be_told(flags):
        return None
    server = running_server()
    if server is None:
        return None
    query = {"name": target.entry.name.short()} | ({"num_ctx": str(num_ctx)} if num_ctx is not None else {})
    try:
        facts = server.ask("GET", "/mull/model", query=query, timeout=None)
    except MullError as error:
        if error.status in (404, 503):
            return None
        raise
    if facts.get("digest") != target.entry.digest:
        return None
    return RemoteLLM(model, server, target, facts, num_ctx)


def _can_be_told(flags: LoadFlags) -> bool:
    """Whether nothing was asked that a server decides for itself."""
    return flags == LoadFlags(num_ctx=flags.num_ctx)


def _defaults(told: object) -> dict[str, Sourced]:
    assert isinstance(told, dict)
    return {
        name: Sourced(tuple(value) if isinstance(value, list) else value, source)
        for name, (value, source) in told.items()
    }


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(text) for text in value]


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value
