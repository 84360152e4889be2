"""Measure `llm serve` against llama.cpp's server on the same file: several streams at once, interleaved round by round.

    python bench/serve.py MODEL.gguf --llama-server llama.cpp/build/bin/llama-server
    python bench/serve.py MODEL.gguf                  only mull, without a ratio

Both servers are up all the time and answer /v1/completions, streamed, greedily, without an end of text; one works at a
time, in the order ours, theirs, theirs, ours, … Prompts are random tokens, sent as numbers, so that each is as long as
it says, and new in every round, so that no cache knows them.

What is measured:
    total         tokens of all answers over the time from the first request to the last token
    decoding      tokens after the last stream's first token, over the time that they took
    first token   from the requests, which are all sent at once; the median stream's and the 95th of a hundred's
    prefix        first token of a long prompt over that of another with the same beginning: how many times sooner

A token may complete no character and then comes with a later one: of a stream's known number of tokens, those after a
moment are counted by the share of its messages; a round in which a stream has few of them is done again. A ratio is of
one round, above 1 where mull is better; the table shows medians. On a machine that other programs keep busy
the ratios mean little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SETTLE = 0.5  # seconds between two measurements, in which threads fall asleep
PATIENCE = 600.0
# Of an answer's tokens, how many must come with a message of their own, and how often it is tried.
LEGIBLE = 0.8
TRIES = 20
HIGHER = {"total": "tok/s", "decoding": "tok/s", "prefix": "times sooner"}
LOWER = {"first token, median": "s", "first token, 95 %": "s"}

Figures = dict[str, float]


@dataclass
class Answer:
    """One streamed answer: when each message came, in seconds since the requests were sent, and the bytes."""

    times: list[float] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def take(self, piece: bytes, now: float) -> None:
        """Note what came; the message that begins in a piece came with it."""
        self.data += piece
        self.times += [now] * piece.count(b"data: {")

    @property
    def is_whole(self) -> bool:
        """Tell whether the answer has ended."""
        return b"[DONE]" in self.data

    def check(self) -> None:
        """Raise RuntimeError if this is no answer."""
        if b" 200" not in self.data[:15] or not self.times or b'"error"' in self.data:
            raise RuntimeError(f"a server answered {bytes(self.data[:2000])!r}")


class Server:
    """A server under measurement."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.port = int(command[command.index("--port") + 1])
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **environment}
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.ask([[1, 2, 3]], 2)
                return
            except (OSError, RuntimeError):
                time.sleep(0.2)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.name} does not answer; its log ends:\n{tail}")

    def end(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def ask(self, prompts: list[list[int]], count: int) -> list[Answer]:
        """Send all prompts at once and read the answers, `count` tokens each, in one thread."""
        with ExitStack() as stack, selectors.DefaultSelector() as selector:
            requests = [_request(prompt, count) for prompt in prompts]
            answers = [Answer() for _ in prompts]
            sockets = []
            for answer in answers:
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
                selector.register(connection, selectors.EVENT_READ, answer)
                sockets.append(connection)
            started = time.perf_counter()
            for connection, request in zip(sockets, requests, strict=True):
                connection.sendall(request)
            while selector.get_map():
                found = selector.select(PATIENCE)
                if not found:
                    raise RuntimeError(f"{self.name} has stopped answering")
                for key, _ in found:
                    piece = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    key.data.take(piece, time.perf_counter() - started)
                    if not piece or key.data.is_whole:
                        selector.unregister(key.fileobj)
        for answer in answers:
            answer.check()
        return answers


def _request(prompt: list[int], count: int) -> bytes:
    body = json.dumps(
        {
            "prompt": prompt,
            "max_tokens": count,
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\nConnection: close\r\n\r\n" + body


class Comparison:
    """All measurements of one model."""

    def __init__(self, servers: list[Server], vocab: int, arguments: argparse.Namespace) -> None:
        self._servers = servers
        self._vocab = vocab
        self._arguments = arguments
        self._random = random.Random(arguments.seed)
        self.rounds: dict[str, list[Figures]] = {server.name: [] for server in servers}

    def run(self) -> None:
        """Measure round by round, after one that is not counted."""
        for turn in range(-1, self._arguments.rounds):
            for server in self._servers if turn % 2 == 0 else reversed(self._servers):
                time.sleep(SETTLE)
                figures = self._streams(server)
                if self._arguments.prefix:
                    time.sleep(SETTLE)
                    figures["prefix"] = self._prefix(server)
                if turn >= 0:
                    self.rounds[server.name].append(figures)
                    shown = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
                    print(f"{server.name}: {shown}", file=sys.stderr, flush=True)

    def _prompt(self, length: int) -> list[int]:
        # The last ids are often control tokens.
        return [self._random.randrange(100, self._vocab * 9 // 10) for _ in range(length)]

    def _streams(self, server: Server) -> Figures:
        arguments = self._arguments
        for _ in range(TRIES):
            prompts = [self._prompt(arguments.prompt) for _ in range(arguments.streams)]
            answers = server.ask(prompts, arguments.generate)
            if min(len(answer.times) for answer in answers) > LEGIBLE * arguments.generate:
                break
            time.sleep(SETTLE)
        else:
            raise RuntimeError(f"{server.name} answers with half characters only")
        firsts = sorted(answer.times[0] for answer in answers)
        last, end = firsts[-1], max(answer.times[-1] for answer in answers)
        shares = (sum(at > last for at in answer.times) / len(answer.times) for answer in answers)
        return {
            "total": arguments.streams * arguments.generate / end,
            "decoding": sum(shares) * arguments.generate / (end - last),
            "first token, median": statistics.median(firsts),
            "first token, 95 %": firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))],
        }

    def _prefix(self, server: Server) -> float:
        """Return how many times sooner the second of two prompts with one beginning gets its first token."""
        shared = self._prompt(self._arguments.prefix)
        first, second = (server.ask([shared + self._prompt(16)], 2)[0].times[0] for _ in range(2))
        return first / second

    def report(self) -> dict[str, dict[str, float]]:
        """Return the medians of each side, and of the ratios of one round, above 1 where ours is better."""
        ours, *theirs = self.rounds.values()
        found: dict[str, dict[str, float]] = {}
        for name in ours[0]:
            row = found[name] = {"ours": statistics.median(each[name] for each in ours)}
            if theirs:
                row["theirs"] = statistics.median(each[name] for each in theirs[0])
                pairs = [(a[name], b[name]) for a, b in zip(ours, theirs[0], strict=True)]
                row["ratio"] = statistics.median(a / b if name in HIGHER else b / a for a, b in pairs)
        return found


def show(found: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    print("| | | mull | llama-server | ratio |\n|---|---|--:|--:|--:|")
    for name, row in found.items():
        unit = {**HIGHER, **LOWER}[name]
        theirs, ratio = (f"{row[key]:.2f}" if key in row else "" for key in ("theirs", "ratio"))
        print(f"| {name} | {unit} | {row['ours']:.2f} | {theirs} | {ratio} |")


def machine() -> str:
    """Name the processor, its cores and the system."""
    model = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


@contextmanager
def servers(arguments: argparse.Namespace) -> Iterator[list[Server]]:
    """Start both servers and stop them."""
    context = arguments.streams * (arguments.prompt + arguments.generate + 64)
    context = -(-max(context, 2 * arguments.prefix + 256) // 256) * 256
    threads, parallel = str(arguments.threads), str(arguments.streams)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        own = [sys.executable, "-m", "mull.cli.main", "serve", str(arguments.model), "--port", _free_port()]
        own += ["--num-ctx", str(context), "--threads", threads, "--parallel", parallel]
        own += ["--speculate", arguments.speculate, "--keep-alive", "-1"]
        own += ["--deterministic"] if arguments.deterministic else []
        found = [Server("mull", own, Path(folder) / "ours.log", {"MULL_MODELS": folder})]
        stack.callback(found[0].end)
        if arguments.llama_server:
            binary = arguments.llama_server.resolve()
            theirs = [str(binary), "-m", str(arguments.model), "--port", _free_port(), "-t", threads]
            # Their context is divided among the streams, where ours is shared.
            size = context if not arguments.prefix else parallel_context(arguments)
            theirs += ["-np", parallel, "-c", str(size)]
            library = {"LD_LIBRARY_PATH": str(binary.parent)}
            found.append(Server("llama-server", theirs, Path(folder) / "theirs.log", library))
            stack.callback(found[1].end)
        for server in found:
            server.wait()
        yield found


def parallel_context(arguments: argparse.Namespace) -> int:
    """Return a context of which each stream's part holds the long prompt."""
    return int(arguments.streams * (arguments.prefix + 256))


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def parse() -> argparse.Namespace:
    """Return the checked command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--llama-server", type=Path, metavar="FILE", help="llama.cpp's program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=2000, help="tokens of the shared beginning; 0: skip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speculate", default="off", help="as llm serve's; random models repeat themselves")
    parser.add_argument("--deterministic", action="store_true", help="measure mull so")
    parser.add_argument("--json", metavar="FILE", help="write every sample to a file; -: to stdout")
    arguments = parser.parse_args()
    if not arguments.model.is_file():
        parser.error(f"{arguments.model}: no such file")
    if arguments.llama_server and not arguments.llama_server.is_file():
        parser.error(f"{arguments.llama_server}: no such file")
    if min(arguments.threads, arguments.streams, arguments.prompt, arguments.rounds) < 1:
        parser.error("threads, streams, prompt and rounds must be above 0")
    if arguments.generate < 2:
        parser.error("an answer must have two tokens at least")
    return arguments


def main() -> int:
    """Measure and report; return the exit status."""
    from mull.models.checkpoint.open import open_checkpoint
    from mull.models.load import model_config

    arguments = parse()
    arguments.model = arguments.model.resolve()
    with open_checkpoint(arguments.model) as checkpoint:
        vocab = model_config(checkpoint).vocab_size
    with servers(arguments) as found:
        comparison = Comparison(found, vocab, arguments)
        comparison.run()
    report = comparison.report()
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        whole = {"machine": machine(), "options": options, "medians": report, "rounds": comparison.rounds}
        text = json.dumps(whole, indent=1)
        if arguments.json == "-":
            print(text)
            return 0
        Path(arguments.json).write_text(text + "\n")
    print(
        f"{arguments.model.name}, {arguments.streams} streams of {arguments.prompt} + {arguments.generate} tokens"
    )
    print(f"{machine()}; {arguments.threads} threads\n")
    show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
