"""What a caller asks of a model, before any template: the one form that every dialect is translated into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidRequest
from ..runtime.grammar.constraint import Constraint
from .message import Message


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue, or with `raw` a prompt that no template touches.

    think: as the option of that name: auto, on, off, a level, a number of tokens or a share; None: as the model's
    makers or the Modelfile say; options: sampling and thinking options by their users' names (`num_predict`,
    `top_k`, `think_min`, …), the absent ones by default; id: by which the reply can be told to stop thinking;
    format: what the answer, not the thought, must look like.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, object], ...] = ()
    think: str | int | bool | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    raw: str | None = None
    id: str | None = None
    format: Constraint | None = None

    def __post_init__(self) -> None:
        if self.raw is None and not self.messages:
            raise InvalidRequest("there is no message to answer", field="messages")
        if self.raw is not None and self.messages:
            raise InvalidRequest("a raw prompt takes no messages beside it", field="raw")
        for tool in self.tools:
            if not isinstance(tool, Mapping):
                raise InvalidRequest("each tool must be an object", field="tools")
