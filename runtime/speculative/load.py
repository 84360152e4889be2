"""What speculates for a model as it was asked to be loaded: nothing, prompt lookup, or a draft model besides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...errors import NotSupported
from ...models.checkpoint.base import Checkpoint
from ...models.checkpoint.open import open_checkpoint
from ...models.load import model_config
from ..backend import Backend
from ..load_options import LoadOptions, parse_speculate
from ..tokenizer.load import load_tokenizer
from ..tokenizer.tokenizer import Tokenizer
from .draft import DraftModel
from .proposer import Proposer
from .speculator import Speculator


def make_proposer(
    options: LoadOptions, backend: Backend, tokenizer: Tokenizer, draft: Path | None, context_length: int
) -> Proposer | None:
    """Return what guesses tokens for a loaded model; draft: the file or folder of a smaller one.

    Raises InvalidRequest for options that mean nothing, NotSupported for a draft model of another vocabulary.
    """
    fixed = parse_speculate(options.speculate)
    if fixed == 0:
        return None
    if draft is not None:
        own = _load_draft(options, draft, tokenizer, backend.config.vocab_size, context_length)
        return Speculator(fixed, own)
    # Other kernels than ours may round differently with another number of rows: only who asks for it gets that.
    if fixed is None and backend.isa is None:
        return None
    return Speculator(fixed)


def _load_draft(
    options: LoadOptions, path: Path, tokenizer: Tokenizer, vocab_size: int, context_length: int
) -> DraftModel:
    """Load a draft model and its cache for as many tokens as both models can take."""
    checkpoint = open_checkpoint(path)
    _check_vocabulary(checkpoint, tokenizer)
    tokens = min(context_length, model_config(checkpoint).max_positions)
    backend = Backend(checkpoint, replace(options, num_ctx=tokens, quantize=None))
    model = backend.load(None)
    checkpoint.trim()
    cache = backend.new_cache(model, tokens)
    return DraftModel(model, cache, vocab_size=vocab_size, context_length=tokens)


def _check_vocabulary(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """Raise NotSupported unless a draft model's tokens are those of the model that it guesses for."""
    own = load_tokenizer(checkpoint)
    hint = "a draft model must be a smaller one of the same family"
    if own.vocab_size != tokenizer.vocab_size:
        raise NotSupported(
            f"the draft model has {own.vocab_size} tokens and the model {tokenizer.vocab_size}",
            field="draft",
            hint=hint,
        )
    for token in range(own.vocab_size):
        if own.token_bytes(token) != tokenizer.token_bytes(token):
            ours, theirs = tokenizer.token_text(token), own.token_text(token)
            raise NotSupported(
                f"the draft model has other tokens: {token} is {theirs!r} there and {ours!r} here",
                field="draft",
                hint=hint,
            )
