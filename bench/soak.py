"""Hours of a server in minutes: mixed load with random disconnects, bad input and model switches.

python bench/soak.py --minutes 30 --clients 12 [--json soak.json]

Reports every answer that was not what the request should bring, the process's memory over time, and whether the
engines' blocks add up once nothing runs. Exit code 1: something of that is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import uvicorn
from mull.models.pocket import model_path
from mull.registry.create import Details, create
from mull.registry.modelfile import Modelfile
from mull.registry.store import Store
from mull.server.app import make_app
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from mull.settings import Settings, load_settings

MODELS = ("pocket", "one", "two")
LONG = {"num_predict": 400, "think": "off", "logit_bias": {"505": -100, "507": -100}}
BAD = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"model": 7}',
    b'{"model": "\xff"}',
    b'{"model": "pocket", "messages": "hi", "prompt": 5, "request": 5}',
    b'{"model": "pocket", "messages": [{"role": "boss", "content": 1}], "prompt": [], "request": []}',
    b"[" * 50_000,
    b"\x00" * 1000,
)


@dataclass
class Tally:
    """What was asked and what came of it."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Count an action."""
        with self.lock:
            self.counts[what] += 1

    def blame(self, what: str) -> None:
        """Note an answer that should have been another."""
        with self.lock:
            self.wrong.append(what[:300])


class Client:
    """One of many that ask at once, each at random but repeatably."""

    def __init__(self, port: int, tally: Tally, seed: int) -> None:
        self._port = port
        self._tally = tally
        self._random = random.Random(seed)
        self._actions: list[tuple[int, Callable[[], None]]] = [
            (10, self._ollama),
            (10, self._openai),
            (6, self._anthropic),
            (6, self._native),
            (8, self._vanish),
            (3, self._vanish_at_once),
            (6, self._bad),
            (3, self._unknown),
            (2, self._unload),
            (2, self._look),
            (1, self._half_a_body),
        ]

    def run(self, until: float) -> None:
        """Act until a moment (time.monotonic())."""
        weights, actions = zip(*self._actions, strict=True)
        while time.monotonic() < until:
            action = self._random.choices(actions, weights)[0]
            self._tally.count(action.__name__.strip("_"))
            try:
                action()
            except (OSError, HTTPException, ValueError, KeyError, AssertionError) as error:
                self._tally.blame(f"{action.__name__}: {type(error).__name__}: {error}")

    def _question(self) -> list[dict[str, str]]:
        a, b = self._random.randrange(1000), self._random.randrange(1000)
        text = f"What is {a} + {b}?" + " Please." * self._random.choice((0, 0, 0, 40))
        return [{"role": "user", "content": text}]

    def _model(self) -> str:
        return self._random.choices(MODELS, (8, 1, 1))[0]

    def _ollama(self) -> None:
        stream = self._random.random() < 0.7
        body = {"model": self._model(), "messages": self._question(), "stream": stream, "think": 100}
        *_, last = self._post("/api/chat", body, 200).splitlines()
        assert json.loads(last)["done"], last[:200]

    def _openai(self) -> None:
        stream = self._random.random() < 0.7
        body = {"model": self._model(), "messages": self._question(), "stream": stream, "max_tokens": 300}
        text = self._post("/v1/chat/completions", body, 200)
        assert text.endswith(b"data: [DONE]\n\n") if stream else json.loads(text)["choices"], text[-200:]

    def _anthropic(self) -> None:
        stream = self._random.random() < 0.7
        body = {"model": self._model(), "messages": self._question(), "stream": stream, "max_tokens": 300}
        text = self._post("/v1/messages", body, 200)
        assert b"message_stop" in text if stream else json.loads(text)["content"], text[-200:]

    def _native(self) -> None:
        request = {"messages": self._question(), "options": {"temperature": 0}}
        *_, last = self._post("/mull/chat", {"model": self._model(), "request": request}, 200).splitlines()
        assert "Done" in json.loads(last), last[:200]

    def _vanish(self) -> None:
        """Leave in the midst of a stream."""
        body = {"model": self._model(), "request": {"messages": self._question(), "options": LONG}}
        with self._asked("/mull/chat", body) as answer:
            assert answer.status == 200, answer.status
            answer.read1(self._random.randrange(1, 2000))

    def _vanish_at_once(self) -> None:
        """Leave before the answer begins: in the queue, during a load, or while the prompt is computed."""
        data = json.dumps({"model": self._model(), "messages": self._question(), "stream": True}).encode()
        with self._link() as link:
            link.sendall(_head("/api/chat", len(data)) + data)
            if self._random.random() < 0.5:
                threading.Event().wait(self._random.random() * 0.05)

    def _bad(self) -> None:
        path = self._random.choice(
            ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/messages", "/mull/chat")
        )
        self._post(path, self._random.choice(BAD), 400)

    def _unknown(self) -> None:
        path = self._random.choice(("/api/chat", "/v1/chat/completions", "/v1/messages"))
        self._post(path, {"model": "nobody", "messages": self._question(), "max_tokens": 5}, 404)

    def _unload(self) -> None:
        self._post("/api/generate", {"model": self._model(), "keep_alive": 0}, 200)

    def _look(self) -> None:
        for path in ("/health", "/metrics", "/api/tags", "/api/ps", "/v1/models"):
            with self._asked(path) as answer:
                assert answer.status == 200, f"{path}: {answer.status}"
                answer.read()

    def _half_a_body(self) -> None:
        with self._link() as link:
            link.sendall(_head("/v1/messages", 1000) + b'{"model"')

    def _post(self, path: str, body: object, status: int) -> bytes:
        with self._asked(path, body) as answer:
            text = answer.read()
            assert answer.status == status, f"{path}: {answer.status}, not {status}: {text[:200]!r}"
            return text

    @contextlib.contextmanager
    def _asked(self, path: str, body: object = None) -> Iterator[HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            kind = {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, None if body is None else data, kind)
            yield connection.getresponse()
        finally:
            connection.close()

    def _link(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=60)


def _head(path: str, length: int) -> bytes:
    kind = "Content-Type: application/json"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {length}\r\n\r\n".encode()


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[tuple[ModelPool, int]]:
    """Run a server in a thread; two models at most are in memory, so that the third makes one go."""
    options = ServerOptions(models_max=2, parallel=6)
    pool = ModelPool(options, settings)
    app = make_app(options, settings, pool)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    try:
        yield pool, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def rss() -> float:
    """Return the MB of memory that this process has."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


def watch(tally: Tally, until: float, started: float) -> None:
    """Note the memory every few seconds and print a line each minute."""
    pause, next_line = threading.Event(), 60.0
    while time.monotonic() < until:
        pause.wait(2)
        passed = time.monotonic() - started
        tally.memory.append((passed, rss()))
        if passed >= next_line:
            next_line += 60
            print(
                f"{passed / 60:5.1f} min  {sum(tally.counts.values()):7} requests  "
                f"{len(tally.wrong)} wrong  {tally.memory[-1][1]:.0f} MB",
                flush=True,
            )


def blocks_are_clean(pool: ModelPool) -> bool:
    """Wait until nothing runs and tell whether the blocks of every loaded model add up."""
    until = time.monotonic() + 30
    while (pool.running or pool.waiting) and time.monotonic() < until:
        threading.Event().wait(0.05)
    clean = not pool.running and not pool.waiting
    for model in pool.loaded:
        engine = model.llm._worker._engine

        def check(engine: object = engine) -> bool:
            engine.pool.check()
            return not engine.has_work

        clean = clean and model.llm._worker.run_exclusive(check)
    return clean


def drift(memory: list[tuple[float, float]]) -> float:
    """Return by how much of it the memory of the last fifth differs from that of the second."""
    fifth = max(1, len(memory) // 5)
    early = [size for _, size in memory[fifth : 2 * fifth]] or [memory[0][1]]
    late = [size for _, size in memory[-fifth:]]
    before, after = sum(early) / len(early), sum(late) / len(late)
    return (after - before) / before


def main() -> int:
    """Run the soak and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"HOME": folder, "MULL_MODELS": f"{folder}/models"})
        store = Store(settings.models_dir)
        details = Details("gguf", "qwen3", ("qwen3",), "1.9M", "Q8_0", 2048)
        for name in MODELS[1:]:
            text = f"FROM {model_path()}\nSYSTEM You are {name}.\n"
            create(store, name, Modelfile.parse(text), base=Path(folder), inspect=lambda path: details)
        with serving(settings) as (pool, port):
            started = time.monotonic()
            until = started + 60 * args.minutes
            work = [Client(port, tally, args.seed + index).run for index in range(args.clients)]
            threads = [threading.Thread(target=run, args=(until,)) for run in work]
            threads.append(threading.Thread(target=watch, args=(tally, until, started)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            clean = blocks_are_clean(pool)
    grown = drift(tally.memory)
    result = {
        "minutes": args.minutes,
        "requests": dict(tally.counts),
        "wrong": tally.wrong,
        "memory_mb": [round(size, 1) for _, size in tally.memory],
        "drift": round(grown, 4),
        "blocks_clean": clean,
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    print(f"{sum(tally.counts.values())} requests: {dict(tally.counts)}")
    print(
        f"memory {grown:+.1%} from the second fifth to the last; blocks {'clean' if clean else 'NOT CLEAN'}"
    )
    for line in tally.wrong[:20]:
        print("wrong:", line)
    return int(bool(tally.wrong) or abs(grown) > 0.05 or not clean)


if __name__ == "__main__":
    sys.exit(main())
