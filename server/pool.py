"""The models in memory: loaded when they are asked for, unloaded when nobody does or when another needs the room."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import MullError
from ..registry.target import find_target
from ..settings import Settings
from .options import ServerOptions

if TYPE_CHECKING:
    from ..llm import LLM

Opener = Callable[[str, ServerOptions, Settings, int | None], "LLM"]


class ServerBusy(MullError):
    """More requests than may wait, or no room for one more model while all are in use."""

    status = 503


@dataclass(slots=True)
class Loaded:
    """A model in memory.

    name: its name in full; expires: when it goes if nobody asks (time.monotonic(), inf: never); in_use: requests that
    hold it; threads: where its replies run, one each.
    """

    name: str
    llm: LLM
    threads: ThreadPoolExecutor
    keep_alive: float
    expires: float = math.inf
    in_use: int = 0
    last_used: float = field(default_factory=time.monotonic)


class ModelPool:
    """Deals out models by name; all of it runs on the event loop, but for loading."""

    def __init__(self, options: ServerOptions, settings: Settings, opener: Opener | None = None) -> None:
        self.options = options
        self.settings = settings
        self._open = opener or _open
        self._loaded: dict[str, Loaded] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def loaded(self) -> list[Loaded]:
        """The models in memory, the last used first."""
        return sorted(self._loaded.values(), key=lambda model: -model.last_used)

    def full_name(self, name: str) -> str:
        """Return the name that a model is known by. Raises ModelNotFound, InvalidName."""
        entry = find_target(name, self.settings).entry
        return name if entry is None else entry.name.short()

    @contextlib.asynccontextmanager
    async def use(
        self, name: str, *, num_ctx: int | None = None, keep_alive: float | None = None
    ) -> AsyncIterator[Loaded]:
        """Hold a model, loaded if need be, with a context of at least num_ctx tokens.

        keep_alive: seconds that it stays afterwards, below 0 for ever. Raises ServerBusy, and what loading raises.
        """
        model = await self._hold(self.full_name(name), num_ctx)
        if keep_alive is not None:
            model.keep_alive = keep_alive
        try:
            yield model
        finally:
            model.in_use -= 1
            model.last_used = time.monotonic()
            model.expires = math.inf if model.keep_alive < 0 else model.last_used + model.keep_alive
            if model.expires <= time.monotonic() and not model.in_use:
                await self.unload(model.name)

    async def unload(self, name: str) -> bool:
        """Let go of a model once nobody uses it; False if it was not loaded."""
        model = self._loaded.get(name)
        if model is None:
            return False
        model.expires = 0.0
        if model.in_use:
            model.keep_alive = 0.0  # the last request that leaves unloads it
            return True
        del self._loaded[name]
        await asyncio.get_running_loop().run_in_executor(None, model.llm.close)
        model.threads.shutdown(wait=False)
        return True

    async def close(self) -> None:
        """Unload everything, whoever still uses it."""
        for name, model in list(self._loaded.items()):
            model.in_use = 0
            await self.unload(name)

    async def _hold(self, name: str, num_ctx: int | None) -> Loaded:
        async with self._locks.setdefault(name, asyncio.Lock()):
            model = self._loaded.get(name)
            if model is None:
                model = await self._load(name, num_ctx)
            if model.in_use >= self.options.parallel + self.options.max_queue:
                raise ServerBusy("server busy, please try again.  maximum pending requests exceeded")
            model.in_use += 1
            return model

    async def _load(self, name: str, num_ctx: int | None) -> Loaded:
        loop = asyncio.get_running_loop()
        llm = await loop.run_in_executor(None, self._open, name, self.options, self.settings, num_ctx)
        threads = ThreadPoolExecutor(self.options.parallel + self.options.max_queue, f"mull-{name}")
        model = Loaded(name, llm, threads, self.options.keep_alive)
        self._loaded[name] = model
        return model


def _open(name: str, options: ServerOptions, settings: Settings, num_ctx: int | None) -> LLM:
    """Load a model; torch is imported with the first."""
    from ..llm import LLM

    load = options.load if num_ctx is None else replace(options.load, num_ctx=num_ctx)
    return LLM.open(name, load, settings=settings)
