"""Pulls killed at random bytes and continued: the right digest, nothing twice, never half a model."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from mull.registry.store import Store

from .conftest import gguf

PROGRAM = Path(__file__).with_name("pulling_process.py")
CHUNK = 1 << 20
DATA = gguf(6 * CHUNK + 12_345)


class Puller:
    """Starts pulls of one model and kills them."""

    def __init__(self, hub: FakeHub, store: Store, rng: random.Random) -> None:
        self.hub = hub
        self.rng = rng
        self.late = 0  # kills one after the other that came when all was sent
        arguments = [sys.executable, str(PROGRAM), hub.url, str(store.root), "u/r"]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.say()

    def say(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def run(self) -> bool:
        """Pull, and kill after a random number of bytes; tell whether it ended by itself before."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        child = int(self.say())
        limit = self.hub.sent() + self.rng.randrange(2 * CHUNK)
        ended = False
        while not ended and self.hub.sent() < limit and self.hub.sent() < len(DATA):
            ended = self.ended(0.001)
        if self.hub.sent() >= len(DATA):
            # All is sent: the kill hits the check of the digest, the manifest, or, after some more time each, nothing.
            self.late += 1
            ended = ended or self.ended(self.rng.random() * 0.2 * self.late)
        else:
            self.late = 0
        if not ended:
            os.kill(child, signal.SIGKILL)
        return self.say() == "0"

    def ended(self, seconds: float) -> bool:
        """Wait at most so long for the process' end."""
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def puller(hub: FakeHub, own: Store) -> Iterator[Puller]:
    puller = Puller(hub, own, random.Random(7))
    yield puller
    puller.close()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_bytes(hub: FakeHub, own: Store, puller: Puller, kills: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.pause = 0.002
    killed = 0
    while killed < kills:
        while not puller.run():
            killed += 1
            for entry in own.list():
                assert own.model_path(own.find(entry.name).manifest).read_bytes() == DATA
        assert own.model_path(own.find("u/r").manifest).read_bytes() == DATA
        # What is sent twice are the bytes that were on their way at a kill: less than a chunk each time.
        runs = sum(asked.path.startswith("/api/models/") for asked in hub.asked)
        assert hub.sent() <= len(DATA) + (runs - 1) * CHUNK
        own.remove("u/r")
        hub.reset()
