"""What is asked of the engine, and what it answers step by step."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Literal

from .sampling.params import SamplingParams

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to continue; `id` is unique among the requests that are under way."""

    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    eos_ids: frozenset[int] = frozenset()
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Output:
    """What one step did for one request.

    tokens: the new ids; text: the new text, in whole characters, with stop strings cut;
    num_computed: prompt tokens computed so far, of num_prompt; num_cached: those that were reused;
    finish: why it ended, in the request's last output.
    """

    request_id: str
    tokens: tuple[int, ...]
    text: str
    finish: FinishReason | None
    num_computed: int
    num_prompt: int
    num_cached: int
