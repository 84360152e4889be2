"""The processes that bench/versus.py lets compute in turn: mull, llama.cpp, and a test of the memory."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import statistics
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mull.errors import MullError, NotSupported

if TYPE_CHECKING:
    from mull.llm import LLM

NAMES = {"ours": "mull", "theirs": "llama.cpp", "memory": "the memory test"}
CACHE_TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2}  # ggml_type
SETTLE = 0.2  # seconds between two measurements
BATCH = 512
LOG_ERROR = 4  # ggml_log_level
TEXT = "The quick brown fox jumps over the lazy dog"
BUFFER = 1 << 30  # bytes, far more than caches hold
INSTALL = "pip install -e '.[peers]'"


@dataclass(frozen=True)
class Settings:
    """What both sides are given; num_ctx in tokens, cache_type for keys and values.

    cpu: the instruction set of mull's kernels (None: the best); llama_lib: a folder with libllama.so (None:
    llama-cpp-python's own).
    """

    path: Path
    threads: int
    num_ctx: int
    cache_type: str
    cpu: str | None = None
    llama_lib: Path | None = None


class Ours:
    """mull, as its users load it."""

    def __init__(self, settings: Settings) -> None:
        import mull.llm  # not timed

        self.settings = settings
        self.mull = mull

    def open(self) -> float:
        """Return the seconds from the path to the first token."""
        settings = self.settings
        started = time.perf_counter()
        options = self.mull.llm.LoadOptions(
            num_ctx=settings.num_ctx,
            threads=settings.threads,
            cache_type_k=settings.cache_type,
            cache_type_v=settings.cache_type,
            cpu=settings.cpu,
            speculate="off",  # it is plain decoding that is compared
        )
        self.llm = self.mull.llm.LLM.open(str(settings.path), options)
        _reply(self.llm, 1)
        return time.perf_counter() - started

    def prefill(self, count: int) -> float:
        """Return the seconds for `count` tokens at once."""
        return self.llm.bench(count, 0, 0)

    def decode(self, count: int, depth: int) -> float:
        """Return the seconds for `count` tokens one by one after `depth` others."""
        return self.llm.bench(0, count, depth)

    def python_share(self) -> float | None:
        """Return the share of a token's time outside native kernels; None if torch computes."""
        return python_share(self.llm)

    def continue_text(self, count: int, depth: int) -> None:
        """Reply with `count` tokens to a text of at most `depth`."""
        from mull.chat.request import ChatRequest

        size = len(self.llm.prompt(ChatRequest(raw=TEXT)).ids)
        _reply(self.llm, count, " ".join([TEXT] * max(1, depth // size - 1)))

    def about(self) -> str:
        """Name the version, the instruction set and the KV cache."""
        return f"mull {self.mull.__version__}: {self.llm.backend}"


def _reply(llm: LLM, count: int, text: str = TEXT) -> float:
    """Return the seconds of a greedy reply of `count` tokens."""
    from mull.chat.request import ChatRequest

    options = {"temperature": 0, "num_predict": count, "ignore_eos": True}
    started = time.perf_counter()
    for _ in llm.chat(ChatRequest(raw=text, options=options)):
        pass
    return time.perf_counter() - started


def python_share(llm: LLM, count: int = 64) -> float | None:
    """Return 1 - native / total seconds of `count` more tokens of a reply, the median of three."""
    from mull.kernels.cpu.native import seconds

    shares = []
    for _ in range(3):
        before = seconds()
        short, between = _reply(llm, 1), seconds()
        long, after = _reply(llm, 1 + count), seconds()
        if after == before:
            return None
        shares.append(1 - (after - 2 * between + before) / (long - short))
    return statistics.median(shares)


class Theirs:
    """llama.cpp through its C functions."""

    def __init__(self, settings: Settings) -> None:
        if settings.llama_lib:
            os.environ["LLAMA_CPP_LIB_PATH"] = str(settings.llama_lib.resolve())
        try:
            import llama_cpp as api  # not timed
            import numpy
        # A library of another version lacks functions.
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            hint = (
                "--llama-lib needs the version that llama-cpp-python has" if settings.llama_lib else INSTALL
            )
            raise NotSupported(f"llama-cpp-python cannot be used: {error}", hint=hint) from None
        self.settings = settings
        self.api, self.np = api, numpy
        self.errors: list[str] = []
        self.depth = 0

        @api.llama_log_callback
        def log(level: int, text: bytes, _: object) -> None:
            if level == LOG_ERROR:
                self.errors.append(text.decode(errors="replace").strip())

        self.log = log  # C keeps the pointer only
        api.llama_log_set(log, None)
        api.llama_backend_init()

    def open(self) -> float:
        """Return the seconds from the path to the first token."""
        api, settings = self.api, self.settings
        started = time.perf_counter()
        model = api.llama_model_load_from_file(str(settings.path).encode(), api.llama_model_default_params())
        if not model:
            raise NotSupported(f"llama.cpp cannot load {settings.path}: {'; '.join(self.errors[:2])}")
        params = api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = settings.num_ctx, BATCH, BATCH
        params.n_threads = params.n_threads_batch = settings.threads
        params.type_k = params.type_v = CACHE_TYPES[settings.cache_type]
        self.context = api.llama_init_from_model(model, params)
        if not self.context:
            raise NotSupported(f"llama.cpp cannot run {settings.path}: {'; '.join(self.errors[:2])}")
        self.memory = api.llama_get_memory(self.context)
        vocabulary = api.llama_model_get_vocab(model)
        self.size = api.llama_vocab_n_tokens(vocabulary)
        tokens = (api.llama_token * 64)()
        count = api.llama_tokenize(vocabulary, TEXT.encode(), len(TEXT), tokens, 64, True, False)
        self._run(tokens[:count])
        self.np.ctypeslib.as_array(api.llama_get_logits(self.context), (self.size,)).argmax()
        return time.perf_counter() - started

    def prefill(self, count: int) -> float:
        """Return the seconds for `count` tokens at once."""
        return self._timed(count, 0, BATCH)

    def decode(self, count: int, depth: int) -> float:
        """Return the seconds for `count` tokens one by one after `depth` others."""
        return self._timed(count, depth, 1)

    def _timed(self, count: int, depth: int, batch: int) -> float:
        ids = random.Random(0).choices(range(self.size), k=depth + count)
        if not depth or self.depth != depth:
            self.api.llama_memory_clear(self.memory, False)
            self._run(ids[:depth])
            self.depth = depth
        self.api.llama_memory_seq_rm(self.memory, 0, depth, -1)
        started = time.perf_counter()
        self._run(ids[depth:], batch)
        return time.perf_counter() - started

    def _run(self, ids: list[int], batch: int = BATCH) -> None:
        api = self.api
        for first in range(0, len(ids), batch):
            part = ids[first : first + batch]
            tokens = (api.llama_token * len(part))(*part)
            status = api.llama_decode(self.context, api.llama_batch_get_one(tokens, len(part)))
            if status:
                raise NotSupported(f"llama_decode ended with {status}: {'; '.join(self.errors[:2])}")
            api.llama_synchronize(self.context)

    def continue_text(self, count: int, depth: int) -> None:
        """Decode `count` tokens after `depth` others."""
        self._timed(count, depth, 1)

    def python_share(self) -> None:
        """Return None: there is no Python in it to speak of."""

    def about(self) -> str:
        """Name the version and the instruction sets that it was built for and finds."""
        text = self.api.llama_print_system_info().decode()
        flags = (part.rpartition(":")[2].split("=") for part in text.split("|") if "=" in part)
        on = " ".join(name.strip() for name, value in flags if value.strip() == "1")
        return (
            f"llama.cpp with llama-cpp-python {self.api.__version__}: {on}; {self.settings.cache_type} cache"
        )


class Memory:
    """The bandwidth of reading memory."""

    def __init__(self, settings: Settings) -> None:
        import torch

        torch.set_num_threads(settings.threads)
        self.buffer = torch.ones(BUFFER // 4)

    def read(self) -> float:
        """Return bytes per second, the best of six readings; of torch's reductions, max is the fastest."""
        times = []
        for _ in range(6):
            started = time.perf_counter()
            self.buffer.max()
            times.append(time.perf_counter() - started)
        return BUFFER / min(times)


def serve(connection: Connection, side: str, settings: Settings) -> None:
    """Answer calls of one side's methods, each a tuple (name, arguments), until the process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    try:
        engine = {"ours": Ours, "theirs": Theirs, "memory": Memory}[side](settings)
        connection.send((True, resident()))
        while True:
            name, arguments = connection.recv()
            result = resident() if name == "resident" else getattr(engine, name)(*arguments)
            connection.send((True, result))
    except MullError as error:
        connection.send((False, (error.message, error.hint)))


def resident() -> int:
    """Return this process's peak resident size in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def busy_others() -> float:
    """Sleep until OpenMP's threads have stopped spinning, then watch: return the share of all cores in use."""
    time.sleep(SETTLE / 2)
    before = _ticks()
    time.sleep(SETTLE / 2)
    idle, total = (after - then for after, then in zip(_ticks(), before, strict=True))
    return 1 - idle / total if total else 0.0


def _ticks() -> tuple[int, int]:
    """Return the idle and all ticks of the processors since the start."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


class Process:
    """A side in a fresh process; `pauses` takes how busy others were before each call."""

    def __init__(self, side: str, settings: Settings, pauses: list[float]) -> None:
        self.pauses = pauses
        context = multiprocessing.get_context("spawn")
        self.side = side
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, side, settings), daemon=True)
        self.process.start()
        other.close()
        self.resident_at_start = self._answer()

    def call(self, name: str, *arguments: object) -> Any:
        """Return what the side's method returns; raise the MullError that it raises."""
        self.pauses.append(busy_others())
        self.connection.send((name, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            good, result = self.connection.recv()
        except EOFError:
            raise MullError(f"the process of {NAMES[self.side]} ended unexpectedly") from None
        if not good:
            message, hint = result
            raise MullError(message, hint=hint)
        return result

    def end(self) -> None:
        """End the process; nothing happens if it has ended."""
        self.process.kill()
        self.process.join()
