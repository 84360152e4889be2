"""The models in memory: shared loads, limits, keeping alive, and changes on disk; with scripted models."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_llm import FakeLLM
from mull.errors import InvalidRequest, ModelNotFound, OutOfMemory
from mull.registry.create import Details, create
from mull.registry.modelfile import Modelfile
from mull.registry.store import Store
from mull.registry.target import Target
from mull.server.loading import Needs
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from mull.server.slots import ServerBusy
from mull.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"HOME": str(tmp_path), "MULL_MODELS": str(tmp_path / "models")})


@pytest.fixture
def make(settings: Settings, tmp_path: Path) -> Callable[..., None]:
    """Return what creates models of a few bytes by name."""

    def make(*names: str, temperature: float = 1.0) -> None:
        (tmp_path / "m.gguf").write_bytes(b"GGUF")
        details = Details("gguf", "qwen3", ("qwen3",), "1M", "Q8_0", 2048)
        for name in names:
            text = f"FROM {tmp_path}/m.gguf\nPARAMETER temperature {temperature}\n"
            create(
                Store(settings.models_dir),
                name,
                Modelfile.parse(text),
                base=tmp_path,
                inspect=lambda path: details,
            )

    return make


class Openings:
    """Counts what is loaded, and holds loads up while `gate` is closed."""

    def __init__(self) -> None:
        self.names: list[tuple[str, int | None]] = []
        self.made: list[FakeLLM] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.begun = 0

    def __call__(self, name: str, options: object, settings: object, num_ctx: int | None) -> FakeLLM:
        self.begun += 1
        assert self.gate.wait(200)
        self.names.append((name, num_ctx))
        if self.error is not None:
            raise self.error
        self.made.append(FakeLLM())
        if num_ctx is not None:
            self.made[-1].context_length = num_ctx
        return self.made[-1]


def pooled(settings: Settings, test: Callable[..., object], **options: object) -> None:
    """Run a test with a pool on an event loop, and close the pool."""
    opening = Openings()

    async def run() -> None:
        pool = ModelPool(ServerOptions(**options), settings, opener=opening)
        try:
            await asyncio.wait_for(test(pool, opening), 200)
        finally:
            opening.gate.set()
            await pool.close()
            assert not pool.loaded
            assert all(model.is_closed for model in opening.made)

    asyncio.run(run())


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


async def gone(pool: ModelPool) -> None:
    await until(lambda: not pool.loaded)


def test_requests_during_a_load_share_it(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        opening.gate.clear()
        asking = [asyncio.ensure_future(pool.lease("pocket", slot=True)) for _ in range(5)]
        await until(lambda: opening.begun and pool.running == 5)
        asking[0].cancel()  # the one that began the load leaves
        opening.gate.set()
        leases = await asyncio.gather(*asking[1:])
        assert opening.names == [("pocket:latest", None)]
        assert {id(lease.model) for lease in leases} == {id(pool.loaded[0])}
        await until(lambda: pool.loaded[0].in_use == 4)
        assert pool.running == 4
        for lease in leases:
            lease.release()
            lease.release()  # twice counts once
        assert (pool.loaded[0].in_use, pool.running) == (0, 0)

    pooled(settings, test)


def test_a_load_that_fails_fails_for_all_who_wait_and_is_tried_again(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        opening.gate.clear()
        opening.error = OutOfMemory("too large")
        asking = [asyncio.ensure_future(pool.lease("pocket", slot=True)) for _ in range(3)]
        await until(lambda: opening.begun and pool.running == 3)
        opening.gate.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(result) for result in results] == ["too large"] * 3
        assert len(opening.names) == 1
        assert pool.running == 0
        opening.error = None
        async with pool.use("pocket"):
            assert len(opening.names) == 2

    pooled(settings, test)


def test_what_is_wrong_with_another_requests_context_concerns_nobody_else(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        opening.gate.clear()
        opening.error = InvalidRequest("too much context")
        bad = asyncio.ensure_future(pool.lease("pocket", num_ctx=99999))
        await until(lambda: opening.begun)
        good = asyncio.ensure_future(pool.lease("pocket", slot=True))
        await until(lambda: pool.running == 1)
        opening.gate.set()
        with pytest.raises(InvalidRequest, match="too much context"):
            await bad
        opening.error = None
        (await good).release()

    pooled(settings, test)


def test_zero_unloads_after_the_request_and_minus_one_never(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        async with pool.use("pocket", keep_alive=0.0) as model:
            assert pool.loaded == [model]
        await gone(pool)
        await until(lambda: opening.made[0].is_closed)  # in a thread, once nobody finds it any more
        async with pool.use("pocket", keep_alive=-1.0) as model:
            pass
        assert model.expires == float("inf")
        assert model.timer is None

    pooled(settings, test)


def test_an_idle_model_goes_when_its_time_is_over(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        async with pool.use("pocket", keep_alive=0.01):
            await asyncio.sleep(0.05)
            assert pool.loaded  # in use
        await gone(pool)

    pooled(settings, test)


def test_unloading_a_model_in_use_waits_for_its_last_request(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        lease = await pool.lease("pocket")
        assert await pool.unload("pocket")
        assert pool.loaded
        lease.release()
        await gone(pool)
        assert not await pool.unload("pocket")

    pooled(settings, test)


def test_a_larger_context_reloads_once_the_model_is_idle_and_a_smaller_one_does_not(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        first = await pool.lease("pocket", num_ctx=1000)
        larger = asyncio.ensure_future(pool.lease("pocket", num_ctx=1500))
        await until(lambda: pool.loaded[0].is_leaving)
        assert not larger.done()
        first.release()
        lease = await larger
        assert lease.model.llm.context_length == 1500
        lease.release()
        async with pool.use("pocket", num_ctx=800) as model:
            assert model.llm.context_length == 1500
        async with pool.use(
            "pocket"
        ):  # asks for what the model has by default, not for what somebody else chose
            assert opening.names[-1] == ("pocket:latest", None)
        assert len(opening.names) == 3
        with pytest.raises(InvalidRequest, match="at least 1 token"):
            await pool.lease("pocket", num_ctx=0)

    pooled(settings, test)


def test_the_least_recently_used_idle_model_makes_room(settings: Settings, make: Callable[..., None]):
    make("a", "b", "c")

    async def test(pool: ModelPool, opening: Openings) -> None:
        for name in ("a", "b", "a", "c"):
            async with pool.use(name):
                pass
        assert [model.name for model in pool.loaded] == ["c:latest", "a:latest"]

    pooled(settings, test, models_max=2)


def test_two_models_that_do_not_fit_together_take_turns(settings: Settings, make: Callable[..., None]):
    make("a", "b")

    async def test(pool: ModelPool, opening: Openings) -> None:
        served = []

        async def ask(name: str) -> None:
            lease = await pool.lease(name, slot=True)
            assert len(pool.loaded) == 1
            served.append(name)
            await asyncio.sleep(0.001)
            lease.release()

        await asyncio.gather(*(ask("ab"[index % 2]) for index in range(40)))
        assert sorted(served) == ["a"] * 20 + ["b"] * 20
        assert len(opening.names) < 20  # those that ask for the same model share a load

    pooled(settings, test, models_max=1)


def test_a_waiting_load_is_not_starved_by_requests_for_what_is_loaded(
    settings: Settings, make: Callable[..., None]
):
    make("a", "b")

    async def test(pool: ModelPool, opening: Openings) -> None:
        stop = False

        async def keep_busy() -> None:
            while not stop:
                lease = await pool.lease("a", slot=True)
                await asyncio.sleep(0.001)
                lease.release()

        busy = [asyncio.ensure_future(keep_busy()) for _ in range(3)]
        await until(lambda: pool.running)
        async with pool.use("b"):
            stop = True
        await asyncio.gather(*busy)

    pooled(settings, test, models_max=1)


def test_a_model_replaced_on_disk_is_loaded_anew(settings: Settings, make: Callable[..., None]):
    make("a")

    async def test(pool: ModelPool, opening: Openings) -> None:
        lease = await pool.lease("a")
        make("a", temperature=0.5)
        asking = asyncio.ensure_future(pool.lease("a"))
        await until(lambda: pool.loaded[0].is_leaving)
        assert not asking.done()  # the old one is still in use
        lease.release()
        (await asking).release()
        assert len(opening.names) == 2

    pooled(settings, test)


def test_a_model_removed_from_disk_goes_from_memory(settings: Settings, make: Callable[..., None]):
    make("a")

    async def test(pool: ModelPool, opening: Openings) -> None:
        lease = await pool.lease("a")
        Store(settings.models_dir).remove("a")
        with pytest.raises(ModelNotFound):
            await pool.lease("a")
        assert pool.loaded  # for the one that still uses it
        lease.release()
        await gone(pool)

    pooled(settings, test)


def test_files_are_loaded_only_if_the_server_was_started_with_them(settings: Settings, tmp_path: Path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")

    async def test(pool: ModelPool, opening: Openings) -> None:
        with pytest.raises(ModelNotFound, match="not found"):
            await pool.lease(str(tmp_path / "other.gguf"))
        async with pool.use(str(path)):
            pass

    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    pooled(settings, test, models=(str(path),))


def test_more_requests_than_may_wait_are_turned_away_while_the_model_loads(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        opening.gate.clear()
        asking = [asyncio.ensure_future(pool.lease("pocket", slot=True)) for _ in range(5)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        refused = [each for each in asking if each.done()]
        assert len(refused) == 1
        assert isinstance(refused[0].exception(), ServerBusy)
        opening.gate.set()
        asking.remove(refused[0])
        for lease in asyncio.as_completed(asking):  # turns come in any order
            (await lease).release()

    pooled(settings, test, parallel=2, max_queue=2)


def test_a_closed_pool_deals_out_nothing(settings: Settings):
    async def test(pool: ModelPool, opening: Openings) -> None:
        pool.refuse()
        with pytest.raises(ServerBusy, match="about to end"):
            await pool.lease("pocket")

    pooled(settings, test)


def test_memory_decides_which_models_stay_together(settings: Settings, make: Callable[..., None]):
    make("a", "b", "big")

    async def test(pool: ModelPool, opening: Openings) -> None:
        def measure(target: Target, options: ServerOptions, num_ctx: int | None, spare: int) -> Needs:
            # The machine has room for one model of FakeLLM's size, and never for the big one.
            room = 8_000_000 - sum(model.llm.plan.weight_bytes + 1_000_000 for model in pool.loaded) + spare
            if target.entry.name.model == "big" or room < 5_000_000:
                raise OutOfMemory("too large")
            return Needs(hold=True, context_length=2048)

        pool._measure = measure
        for name in ("a", "b", "a"):
            async with pool.use(name):
                assert len(pool.loaded) == 1
        with pytest.raises(OutOfMemory, match="too large"):
            await pool.lease("big")
        assert [model.name for model in pool.loaded] == ["a:latest"]  # nobody had to go for what cannot fit
        assert [name for name, _ in opening.names] == ["a:latest", "b:latest", "a:latest"]

    pooled(settings, test)


def test_nothing_of_a_model_is_frozen(server_settings, server_store):
    """The collector never frees what is frozen: a server that changes models would grow for ever."""
    server_store.copy("pocket", "twin")
    pool = ModelPool(ServerOptions(), server_settings)
    frozen: list[int] = []

    async def both() -> None:
        for name in ("pocket", "twin"):
            async with pool.use(name):
                frozen.append(gc.get_freeze_count())
        await pool.close()

    asyncio.run(both())
    assert 0 < frozen[1] <= frozen[0]
