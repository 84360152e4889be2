"""An engine for a loaded model: its cache, its schedule and what computes and samples, put together."""

from __future__ import annotations

from ..models.base import MAX_STEP, CausalLM
from .backend import BLOCK_SIZE, Backend
from .blocks import BlockPool
from .engine import Engine
from .load_options import LoadOptions
from .runner import ModelRunner
from .sampling.sampler import Sampler
from .scheduler import Scheduler
from .speculative.proposer import Proposer
from .tokenizer.tokenizer import Tokenizer

# Tokens of a step, and of one prompt in it.
CHUNK = MAX_STEP
# Tokens of prompts in a step, while others reply: what their next tokens wait for.
BUSY_CHUNK = 128


def make_engine(
    model: CausalLM, backend: Backend, tokenizer: Tokenizer, options: LoadOptions, proposer: Proposer | None
) -> Engine:
    """Return an engine with a cache for one whole context, which all requests share; raises NotSupported."""
    context = backend.plan.context_length
    cache = backend.new_cache(model, context)
    pool = BlockPool(cache.num_blocks, BLOCK_SIZE)
    scheduler = Scheduler(
        pool,
        max_context=context,
        token_budget=CHUNK,
        chunk=CHUNK,
        busy_chunk=BUSY_CHUNK,
        max_running=options.parallel,
    )
    return Engine(
        ModelRunner(model, cache, deterministic=options.deterministic),
        pool,
        scheduler,
        Sampler(),
        detokenizer=lambda: tokenizer.stream(continuing=True),
        token_bytes=tokenizer.token_bytes,
        proposer=proposer,
    )
