"""Opens the headers of what a command's MODEL means, and says what they tell; without torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..models.checkpoint.summary import bits_per_weight as bits_per_weight
from ..models.checkpoint.summary import context_length as context_length
from ..models.checkpoint.summary import embedding_length as embedding_length
from ..models.checkpoint.summary import quantization as quantization

if TYPE_CHECKING:
    from ..models.checkpoint.base import Checkpoint
    from ..registry.target import Target


@contextmanager
def open_target(model: str) -> Iterator[tuple[Target, Checkpoint]]:
    """Find a model and open its headers."""
    from ..models.checkpoint.open import open_checkpoint
    from ..registry.target import find_target

    target = find_target(model)
    with open_checkpoint(target.path) as checkpoint:
        yield target, checkpoint
