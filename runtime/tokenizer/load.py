"""Finds the tokenizer of a checkpoint, in its metadata or in the files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...models.checkpoint.tokenizer_files import declared_ends
from .gguf import tokenizer_from_gguf
from .huggingface import tokenizer_from_folder
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from ...models.checkpoint.base import Checkpoint


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Build a checkpoint's tokenizer; raise TokenizerError if it is absent, broken or of an unknown kind."""
    if checkpoint.format == "gguf":
        return tokenizer_from_gguf(checkpoint.metadata)
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    return tokenizer_from_folder(folder, declared_ends(checkpoint.generation, checkpoint.config))
