"""Servers under test: a live one on a socket with the bundled model, and the application alone with a scripted one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_llm import FakeLLM
from fastapi import FastAPI
from live_server import Live, serving
from mull.registry.store import Store
from mull.server.app import make_app
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from mull.settings import Settings, load_settings


@pytest.fixture(scope="session")
def server_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with a store of their own, in which the bundled model `pocket` is found as well."""
    folder = tmp_path_factory.mktemp("serve")
    return replace(load_settings({"HOME": str(folder)}), models_dir=folder / "models")


@pytest.fixture(scope="session")
def server_store(server_settings: Settings) -> Store:
    """The store of `live`."""
    return Store(Path(server_settings.models_dir))


@pytest.fixture
def serve(server_settings: Settings) -> Iterator[Callable[..., Live]]:
    """Return what starts servers: serve(ServerOptions(…), pool=…); they end with the test."""
    with contextlib.ExitStack() as running:
        yield lambda options=None, pool=None, settings=None: running.enter_context(
            serving(options or ServerOptions(), settings or server_settings, pool)
        )


@pytest.fixture(scope="session")
def live(server_settings: Settings) -> Iterator[Live]:
    """One server for all tests, with the bundled model `pocket` to be loaded on demand; `live.base_url`."""
    with serving(ServerOptions(), server_settings) as server:
        yield server


@pytest.fixture
def fake_pool(server_settings: Settings) -> Callable[..., ModelPool]:
    """Return what makes a pool of FakeLLMs, dealt out in turn, the last again: fake_pool(fake, parallel=1)."""

    def make(*fakes: FakeLLM, **options: object) -> ModelPool:
        left = list(fakes or (FakeLLM(),))

        def opener(name, server_options, settings, num_ctx):
            return left.pop(0) if len(left) > 1 else left[0]

        return ModelPool(ServerOptions(**options), server_settings, opener=opener)

    return make


@pytest.fixture
def fake_app(server_settings: Settings, fake_pool: Callable[..., ModelPool]) -> Callable[..., FastAPI]:
    """Return what makes an application over FakeLLMs: fake_app(fake, parallel=1); the model's name is `pocket`."""

    def make(*fakes: FakeLLM, **options: object) -> FastAPI:
        pool = fake_pool(*fakes, **options)
        return make_app(pool.options, server_settings, pool)

    return make
