"""Long prompts that outlive the process: their blocks of the KV cache, read from disk and written there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from ..models.cache import Cache
from .block_files import BlockFiles
from .blocks import BlockPool

T = TypeVar("T")

# Blocks that are copied between two steps of the engine, so that running replies do not wait for long.
_AT_ONCE = 8

_log = logging.getLogger("mull.prompt_cache")


class Exclusive(Protocol):
    """Runs a function on the engine's thread between two steps."""

    def __call__(self, function: Callable[[], T], /) -> T: ...


class PromptCache:
    """Brings blocks from files into the pool and back; any thread but the engine's may call it."""

    def __init__(self, files: BlockFiles, pool: BlockPool, cache: Cache, exclusive: Exclusive) -> None:
        self._files = files
        self._pool = pool
        self._cache = cache
        self._exclusive = exclusive
        self._files.prune()

    def restore(self, tokens: Sequence[int]) -> int:
        """Put the stored blocks of a prompt into the pool, those that it does not have; return how many."""
        tokens = list(tokens)
        size = self._pool.block_size
        names = list(self._files.names(tokens, size))
        known = len(self._found(tokens))
        restored = 0
        for start in range(known, len(names), _AT_ONCE):
            data = []
            for name in names[start : start + _AT_ONCE]:
                block = self._files.read(name, self._cache.block_bytes)
                if block is None:
                    break
                data.append(block)
            added = self._exclusive(partial(self._add, tokens, start, data))
            restored += added
            if added < _AT_ONCE:
                break
        return restored

    def save(self, tokens: Sequence[int]) -> int:
        """Write those blocks of `tokens` that the pool has and the folder has not; return how many.

        A disk that is full, or that may not be written, costs the blocks, not the reply.
        """
        tokens = list(tokens)
        size = self._pool.block_size
        names = list(self._files.names(tokens, size))[: len(self._found(tokens))]
        nbytes = self._cache.block_bytes
        wanted = [index for index, name in enumerate(names) if not self._files.has(name, nbytes)]
        written = 0
        try:
            for at in range(0, len(wanted), _AT_ONCE):
                some = wanted[at : at + _AT_ONCE]
                data = self._exclusive(partial(self._copies, tokens, some))
                for index, block in zip(some, data, strict=False):
                    self._files.write(names[index], block)
                    written += 1
        except OSError as error:
            _log.warning("the prompt cache cannot be written: %s", error)
        if written:
            self._files.prune()
        return written

    def _found(self, tokens: list[int]) -> list[int]:
        return self._exclusive(partial(self._pool.find, tokens))

    def _add(self, tokens: list[int], first: int, data: list[bytes]) -> int:
        """On the engine's thread: file blocks that follow the first `first`; return how many there was room for."""
        size = self._pool.block_size
        for count, block_data in enumerate(data):
            block = self._pool.add(tokens[: (first + count + 1) * size])
            if block is None:
                return count
            self._cache.set_block(block, block_data)
        return len(data)

    def _copies(self, tokens: list[int], wanted: list[int]) -> list[bytes]:
        """On the engine's thread: copy the blocks of `tokens` at these places, as far as they are still there."""
        found = self._pool.find(tokens)
        return [self._cache.get_block(found[index]) for index in wanted if index < len(found)]
