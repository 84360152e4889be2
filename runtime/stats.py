"""What an engine has done and holds, in numbers that other threads may read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What has happened since the engine began; only its own thread counts.

    computed: tokens that went through the model; prompt, cached: tokens of prompts that were read, and of them those
    that were found in the cache; generated: tokens that were given out; preempted: times that a sequence lost its
    blocks; finished, cancelled: requests that came to their end, and that were ended before.
    """

    steps: int = 0
    computed: int = 0
    prompt: int = 0
    cached: int = 0
    generated: int = 0
    preempted: int = 0
    finished: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An engine between two steps, all numbers of one moment.

    running, waiting: requests; blocks_used: blocks that running ones hold; blocks_cached: others, kept for reuse;
    the rest: as in Counters.
    """

    running: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_cached: int = 0
    blocks_total: int = 0
    block_size: int = 0
    steps: int = 0
    computed_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    finished: int = 0
    cancelled: int = 0
