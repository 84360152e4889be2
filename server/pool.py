"""The models in memory: loaded when they are asked for, unloaded when nobody does or when another needs the room."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, ModelNotFound, MullError
from ..settings import Settings
from .loading import Found, Needs, find, give_back, load, measure, untouched
from .options import ServerOptions
from .slots import ENDING, ServerBusy, Slots

if TYPE_CHECKING:
    from ..llm import LLM

Opener = Callable[[str, ServerOptions, Settings, int | None], "LLM"]


@dataclass(slots=True, eq=False)
class Loaded:
    """A model in memory.

    name: its name in full; found: what was loaded, on disk; threads: where its replies run, one each; num_ctx: the
    context that was asked for; keep_alive: seconds that it stays when idle, below 0 for ever;
    expires: when it goes if nobody asks (time.time(), inf: never); in_use: requests that hold it; is_leaving: new
    requests wait until it has gone.
    """

    name: str
    llm: LLM
    found: Found
    threads: ThreadPoolExecutor
    keep_alive: float
    num_ctx: int | None = None
    expires: float = math.inf
    in_use: int = 0
    is_leaving: bool = False
    last_used: float = field(default_factory=time.monotonic)
    loaded_at: float = field(default_factory=time.time)
    timer: asyncio.TimerHandle | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Change:
    """A load under way: the context that is wanted, and its end."""

    num_ctx: int | None
    ready: asyncio.Future[None]


class Lease:
    """A model held for one request; `release` may come from anywhere on the loop, and more than once."""

    def __init__(self, pool: ModelPool, model: Loaded, slots: Slots | None) -> None:
        self.model = model
        self._pool = pool
        self._slots = slots
        self._is_held = True

    def release(self) -> None:
        """Let go of the model, and of the turn to run."""
        if self._is_held:
            self._is_held = False
            if self._slots is not None:
                self._slots.release()
            self._pool.let_go(self.model)


class ModelPool:
    """Deals out models by name; all of it runs on the event loop, but for reading and loading."""

    def __init__(self, options: ServerOptions, settings: Settings, opener: Opener | None = None) -> None:
        self.options = options
        self.settings = settings
        self.is_closing = False
        self._open = opener or load
        self._measure = measure if opener is None else None
        self._loaded: dict[str, Loaded] = {}
        self._slots: dict[str, Slots] = {}
        self._changes: dict[str, _Change] = {}
        self._one_load = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._readers = ThreadPoolExecutor(2, "mull-store")
        self._loaders = ThreadPoolExecutor(1, "mull-load")

    @property
    def loaded(self) -> list[Loaded]:
        """The models in memory, the last used first."""
        return sorted(self._loaded.values(), key=lambda model: -model.last_used)

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return sum(slots.waiting for slots in self._slots.values())

    @property
    def running(self) -> int:
        """How many requests run."""
        return sum(slots.running for slots in self._slots.values())

    def full_name(self, name: str) -> str:
        """Return the name that a model is known by. Raises ModelNotFound, InvalidName."""
        return find(name, self.options, self.settings).name

    @contextlib.asynccontextmanager
    async def use(
        self, name: str, *, num_ctx: int | None = None, keep_alive: float | None = None
    ) -> AsyncIterator[Loaded]:
        """Hold a model, loaded if need be, with a context of at least num_ctx tokens; takes no turn.

        keep_alive: seconds that it stays afterwards, below 0 for ever. Raises ServerBusy, and what loading raises.
        """
        lease = await self.lease(name, num_ctx=num_ctx, keep_alive=keep_alive)
        try:
            yield lease.model
        finally:
            lease.release()

    async def lease(
        self, name: str, *, num_ctx: int | None = None, keep_alive: float | None = None, slot: bool = False
    ) -> Lease:
        """Hold a model until the lease is released; with `slot`, when it is this request's turn to run."""
        if self.is_closing:
            raise ServerBusy(ENDING)
        found = await self._find(name)
        slots = None
        if slot:
            slots = self._slots.setdefault(found.name, Slots(self.options.parallel, self.options.max_queue))
            await slots.acquire()
        try:
            model = await self._hold(found, num_ctx)
        except BaseException:
            if slots is not None:
                slots.release()
            raise
        if keep_alive is not None:
            model.keep_alive = keep_alive
        return Lease(self, model, slots)

    def let_go(self, model: Loaded) -> None:
        """Take note that a request is done with a model; an idle one goes when its time is over."""
        model.in_use -= 1
        model.last_used = time.monotonic()
        if model.in_use:
            return
        model.idle.set()
        if model.keep_alive < 0 or self._loaded.get(model.name) is not model:
            model.expires = math.inf
            return
        model.expires = time.time() + model.keep_alive
        if model.keep_alive == 0:
            self._start(self._unload_idle(model))
        else:
            loop = asyncio.get_running_loop()
            model.timer = loop.call_later(model.keep_alive, lambda: self._start(self._unload_idle(model)))

    async def unload(self, name: str) -> bool:
        """Let go of a model once nobody uses it; False if it was not loaded."""
        model = self._loaded.get(name) or self._loaded.get((await self._find(name)).name)
        if model is None:
            return False
        if model.in_use:
            model.keep_alive = 0.0  # the last request that leaves unloads it
        else:
            await self._unload_idle(model)
        return True

    def refuse(self) -> None:
        """Take no more requests, and turn away those that wait for their turn."""
        self.is_closing = True
        for slots in self._slots.values():
            slots.refuse()

    async def close(self) -> None:
        """Unload everything, whoever still uses it."""
        self.refuse()
        for task in list(self._background):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for model in list(self._loaded.values()):
            await self._drop(model)
        await asyncio.wrap_future(self._loaders.submit(lambda: None))  # after all that is being closed
        self._readers.shutdown(wait=False)
        self._loaders.shutdown(wait=False)

    # From here on, how a model comes to be loaded

    async def _find(self, name: str) -> Found:
        """Look a model up on disk; one that is no longer there goes from memory as well."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._readers, find, name, self.options, self.settings)
        except ModelNotFound:
            gone = self._loaded.get(name) or self._loaded.get(f"{name}:latest")
            if gone is not None and not gone.in_use:
                self._start(self._unload_idle(gone))
            elif gone is not None:
                gone.keep_alive = 0.0
            raise

    async def _hold(self, found: Found, num_ctx: int | None) -> Loaded:
        if num_ctx is not None and num_ctx < 1:
            raise InvalidRequest(f"the context must be at least 1 token, not {num_ctx}", field="num_ctx")
        while True:
            model = self._loaded.get(found.name)
            if model is not None and not model.is_leaving and _serves(model, found, num_ctx):
                model.in_use += 1
                model.idle.clear()
                model.expires = math.inf
                if model.timer is not None:
                    model.timer.cancel()
                return model
            change = self._changes.get(found.name)
            if change is None:
                change = _Change(num_ctx, asyncio.get_running_loop().create_future())
                self._changes[found.name] = change
                self._start(self._run(change, found))
            try:
                await asyncio.shield(change.ready)
            except MullError:
                if change.num_ctx == num_ctx:
                    raise  # what another asked for need not concern this request

    async def _run(self, change: _Change, found: Found) -> None:
        """Change what is loaded under a name and tell all that wait for it; whoever asks meanwhile shares this."""
        async with self._one_load:
            try:
                model = await self._change(found, change.num_ctx)
            except BaseException as error:
                if not change.ready.done():
                    change.ready.set_exception(error)
                    change.ready.exception()  # there may be nobody left who asks
                if not isinstance(error, Exception):
                    raise
                return
            finally:
                del self._changes[found.name]
            change.ready.set_result(None)
            # Those who waited take hold before the next load may choose this model to make room.
            for _ in range(5):
                await asyncio.sleep(0)
            used = model.last_used
            self.let_go(model)
            model.last_used = used  # the load is no use of it: another may have been used since

    async def _change(self, found: Found, num_ctx: int | None) -> Loaded:
        """Load a model, in the place of what is loaded under its name; return it held."""
        old = self._loaded.get(found.name)
        best = await self._needs(found, num_ctx, alone=True)
        if old is not None:
            await self._retire(old)
        await self._make_room(found, num_ctx, best)
        loop = asyncio.get_running_loop()
        llm = await loop.run_in_executor(
            self._loaders, self._open, found.name, self.options, self.settings, num_ctx
        )
        threads = ThreadPoolExecutor(self.options.parallel, f"mull-{found.name}")
        model = Loaded(found.name, llm, found, threads, self.options.keep_alive, num_ctx=num_ctx, in_use=1)
        self._loaded[found.name] = model
        return model

    async def _needs(self, found: Found, num_ctx: int | None, *, alone: bool) -> Needs | None:
        """Work out how a model would be loaded now, or with all others gone; raises what keeps it from loading."""
        if self._measure is None:
            return None
        committed = sum(map(_nbytes, self._loaded.values()))
        spare = (committed if alone else 0) - untouched(committed)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._loaders, self._measure, found.target, self.options, num_ctx, spare
        )

    async def _make_room(self, found: Found, num_ctx: int | None, best: Needs | None) -> None:
        """Unload others, the least recently used first, until this one fits; waits for those in use."""
        while self._loaded:
            fits = len(self._loaded) < self.options.models_max
            if fits and best is not None:
                try:
                    now = await self._needs(found, num_ctx, alone=False)
                    fits = now is None or now.is_as_good_as(best)
                except MullError:
                    fits = False
            if fits:
                return
            await self._retire(
                min(self._loaded.values(), key=lambda model: (model.in_use > 0, model.last_used))
            )

    async def _retire(self, model: Loaded) -> None:
        """Unload a model as soon as those who use it are done; new requests for it wait."""
        model.is_leaving = True
        await model.idle.wait()
        await self._unload_idle(model)

    async def _unload_idle(self, model: Loaded) -> None:
        if not model.in_use and self._loaded.get(model.name) is model:
            await self._drop(model)

    async def _drop(self, model: Loaded) -> None:
        """Forget a model, stop its engine and give its memory back."""
        del self._loaded[model.name]
        model.is_leaving = True
        if model.timer is not None:
            model.timer.cancel()
        # Whoever is cancelled while it waits for this must not keep it from being done.
        await asyncio.shield(asyncio.wrap_future(self._loaders.submit(_close, model)))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _serves(model: Loaded, found: Found, num_ctx: int | None) -> bool:
    """Whether a loaded model is what lies on the disk now, with as much context as is wanted: at least num_ctx, or
    what it has by default."""
    enough = model.num_ctx is None if num_ctx is None else model.llm.context_length >= num_ctx
    return model.found.digest == found.digest and enough


def _nbytes(model: Loaded) -> int:
    """Return what a model takes that it would give back; weights that are not held are pages of its file."""
    plan = model.llm.plan
    return plan.cache_bytes + (plan.weight_bytes if plan.hold else 0)


def _close(model: Loaded) -> None:
    model.llm.close()
    model.threads.shutdown(wait=False)
    give_back()
