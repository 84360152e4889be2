"""A hub on loopback, a store beside it, and nothing of the machine's own."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from fake_hub import FakeHub, serving
from mull.registry.pull import PullOptions, pull
from mull.registry.store import Store
from mull.registry.web import Patience
from mull.settings import Remotes, load_remotes

HASTY = Patience(stall=0.5, tries=4, pause=0.005, longest=0.05)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub()) as hub:
        yield hub


@pytest.fixture
def remotes(hub: FakeHub, tmp_path: Path) -> Remotes:
    """Return settings that name the hub, with a token for huggingface.co that it must never see."""
    return load_remotes(
        {
            "HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": hub.url,
            "MODELSCOPE_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_official",
            "OLLAMA_MODELS": str(tmp_path / "ollama"),
        }
    )


@pytest.fixture
def own(tmp_path: Path) -> Store:
    return Store(tmp_path / "models", bundled=None)


@pytest.fixture
def get(own: Store, remotes: Remotes) -> Callable[..., list]:
    """Pull by a name into the store; return the events."""

    def call(name: str, **options: object) -> list:
        events: list = []
        kept = {"patience": HASTY, "connections": 4, **options}
        pull(name, PullOptions(**kept), store=own, remotes=remotes, report=events.append)  # type: ignore[arg-type]
        return events

    return call


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut downloads into chunks of 64 KiB."""
    monkeypatch.setattr("mull.registry.partial.CHUNK", 64 << 10)
    return 64 << 10


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Run Docker's registry on loopback; return host:port. Skip where the program is absent."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: '{address}', secret: s}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx2.Client(transport=httpx2.HTTPTransport(retries=8)) as client:
            assert client.get(f"http://{address}/v2/").status_code == 200
        yield address
    finally:
        process.terminate()
        process.wait()


def weights(store: Store, name: str) -> bytes:
    """Return the bytes of a stored model's file."""
    return store.model_path(store.resolve(name)).read_bytes()


def gguf(size: int, seed: int = 0) -> bytes:
    """Return bytes that begin as a GGUF does."""
    return b"GGUF" + random.Random(seed).randbytes(size - 4)
