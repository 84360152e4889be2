"""Measure mull against llama.cpp on the same files: interleaved round by round, each in a process of its own.

    python bench/versus.py MODEL.gguf
    python bench/versus.py --shapes llama-1b,qwen3-0.6b --types q4_k_m,q8_0 --vocab-dir ../shared/data/tokenizers
    python bench/versus.py MODEL.gguf --cpu avx2 --llama-lib DIR

Both have the same number of threads and the same type of KV cache; llama.cpp (through llama-cpp-python) decides by
itself on flash attention and on repacking weights, with batches of 512. --cpu and --llama-lib compare kernels of one
instruction set: DIR holds a libllama.so that was built for it. Only one process computes at a time, in the order
ours, theirs, theirs, ours, …, after a pause in which the other's threads fall asleep.

What is measured:
    prefill       a prompt's tokens in an empty cache, with the logits of the last
    decode        random tokens one by one, with logits but no sampling, after 1 token or after --depth tokens
    load          in a fresh process that has imported its libraries, with the file in the page cache: from the path
                  to the first greedy token after a short text, tokenized (mull: LLM.open and chat)
    memory        the peak resident size (VmHWM) of a fresh process that loads and continues a text of --depth or
                  --prompt tokens, whichever is longer; it counts the pages of a mapped file
    of bandwidth  bytes that a token must read (weights as the file has them, and KV cache) over its time, as a share
                  of what as many threads read from a large buffer in the same round; mull reads bfloat16 in 12 bits
    Python        the share of a token's time, in a greedy reply, that is not spent inside mull's native kernels

A ratio is of one round, above 1 where mull is better; the table shows medians over the rounds. On a machine that
other programs keep busy the ratios mean nothing: llama.cpp's threads wait for one another in loops, and one that
has lost its core stops them all. How busy the others were in the pauses is told below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mull.errors import InvalidRequest, MullError, NotSupported
from programs import warm
from rivals import CACHE_TYPES, INSTALL, Process, Settings

PAIR = ("ours", "theirs")

Samples = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Model:
    """What a model must read: bytes of all tensors, of a token's weights, of a token in the cache."""

    name: str
    path: Path
    nbytes: int
    token_bytes: float
    cache_bytes: float

    @classmethod
    def read(cls, name: str, path: Path, cache_type: str) -> Model:
        """Read the header. A window that slides is not considered: its model reads less than this says."""
        from mull.models.checkpoint.open import open_checkpoint
        from mull.models.load import model_config
        from mull.quant.dtype import dtype

        with open_checkpoint(path) as checkpoint:
            config, infos = model_config(checkpoint), checkpoint.infos
            nbytes = checkpoint.nbytes
        untied = infos["token_embd.weight"].nbytes if "output.weight" in infos else 0
        stacked = sum(info.nbytes for name, info in infos.items() if "_exps" in name)
        unused = 1 - config.num_experts_per_token / config.num_experts if config.num_experts else 0
        entries = 2 * config.num_layers * config.num_kv_heads * config.head_dim
        token_bytes = nbytes - untied - unused * stacked
        return cls(name, path, nbytes, token_bytes, entries * dtype(cache_type).bits / 8)


class Comparison:
    """All measurements of one model."""

    def __init__(self, model: Model, arguments: argparse.Namespace) -> None:
        self.model = model
        self.arguments = arguments
        longest = max(arguments.prompt, arguments.depth + arguments.generate, 256)
        num_ctx = -(-longest // 256) * 256
        self.settings = Settings(
            model.path,
            arguments.threads,
            num_ctx,
            arguments.cache_type,
            cpu=arguments.cpu,
            llama_lib=arguments.llama_lib,
        )
        generate, depth = arguments.generate, arguments.depth
        # label, method, what the warm-up passes it, what the rounds pass it
        self.tests: list[tuple[str, str, tuple[int, ...], tuple[int, ...]]] = [
            (f"prefill {arguments.prompt}", "prefill", (arguments.prompt,), (arguments.prompt,)),
            ("decode", "decode", (1, 1), (generate, 1)),
        ]
        if depth:
            self.tests.append((f"decode @ {depth}", "decode", (1, depth), (generate, depth)))
        self.samples: Samples = {}
        self.python: float | None = None
        self.about: list[str] = []
        self.pauses: list[float] = []

    def run(self) -> None:
        """Measure; raises a MullError where one of both cannot."""
        with ExitStack() as stack:
            memory = Process("memory", self.settings, self.pauses)
            stack.callback(memory.end)
            sides = self._load(stack)
            self.about = [sides[side].call("about") for side in PAIR]
            for label, method, warm_up, numbers in self.tests:
                for side in PAIR:
                    sides[side].call(method, *warm_up)
                samples = self.samples[label] = {"ours": [], "theirs": [], "bandwidth": []}
                for turn in self._rounds(label):
                    for side in _order(turn):
                        samples[side].append(sides[side].call(method, *numbers))
                    if method == "decode":
                        samples["bandwidth"].append(memory.call("read"))
            self.python = sides["ours"].call("python_share")
        self._measure_memory()

    def _load(self, stack: ExitStack) -> dict[str, Process]:
        """Time loading in fresh processes; return the last ones, which stay until the stack ends them."""
        self.samples["load"] = {side: [] for side in PAIR}
        sides: dict[str, Process] = {}
        for turn in self._rounds("load"):
            for side in _order(turn):
                if side in sides:
                    sides[side].end()
                sides[side] = Process(side, self.settings, self.pauses)
                stack.callback(sides[side].end)
                self.samples["load"][side].append(sides[side].call("open"))
        return sides

    def _measure_memory(self) -> None:
        names = ("memory", "memory at start")
        taken: dict[str, dict[str, list[float]]] = {name: {side: [] for side in PAIR} for name in names}
        for side in PAIR:
            process = Process(side, self.settings, self.pauses)
            try:
                process.call("open")
                process.call("continue_text", 8, max(self.arguments.depth, self.arguments.prompt) - 8)
                taken["memory"][side].append(process.call("resident"))
                taken["memory at start"][side].append(process.resident_at_start)
            finally:
                process.end()
        self.samples |= taken

    def _rounds(self, label: str) -> Iterator[int]:
        for turn in range(self.arguments.rounds):
            _note(f"{self.model.name}: {label}, round {turn + 1} of {self.arguments.rounds}")
            yield turn

    def rows(self) -> Iterator[str]:
        """Yield the table's lines."""
        for label, method, _, numbers in self.tests:
            samples = self.samples[label]
            rates = [f"{numbers[0] / statistics.median(samples[side]):.1f}" for side in PAIR]
            share = self._of_bandwidth(samples, *numbers) if method == "decode" else ""
            yield _row(f"{label}, tok/s", *rates, *_ratios(samples), share)
        seconds = [f"{statistics.median(self.samples['load'][side]):.2f}" for side in PAIR]
        yield _row("load, s", *seconds, *_ratios(self.samples["load"]), "")
        sizes = [f"{self.samples['memory'][side][0] / 1e9:.2f}" for side in PAIR]
        held = (self.model.nbytes + self.model.cache_bytes * self.settings.num_ctx) / 1e9
        ratio = _ratios(self.samples["memory"])[0]
        yield _row("peak memory, GB", *sizes, ratio, f"file + KV: {held:.2f}", "")
        share = "–" if self.python is None else f"{100 * self.python:.1f} %"
        yield _row("Python's share", share, "", "", "", "")

    def _of_bandwidth(self, samples: dict[str, list[float]], count: int, depth: int) -> str:
        nbytes = (self.model.token_bytes + (depth + count / 2) * self.model.cache_bytes) * count
        shares = (
            statistics.median(
                nbytes / s / b for s, b in zip(samples[side], samples["bandwidth"], strict=True)
            )
            for side in PAIR
        )
        return " / ".join(f"{100 * share:.0f}" for share in shares) + " %"

    def to_json(self) -> dict[str, object]:
        """Return every sample, in seconds and bytes."""
        return {
            "model": self.model.name,
            "nbytes": self.model.nbytes,
            "bytes_per_token": self.model.token_bytes,
            "cache_bytes_per_token": self.model.cache_bytes,
            "num_ctx": self.settings.num_ctx,
            "about": self.about,
            "python_share": self.python,
            "busy_others": self.pauses,
            "samples": self.samples,
        }


def _order(turn: int) -> tuple[str, ...]:
    return PAIR[:: -1 if turn % 2 else 1]


def _ratios(samples: dict[str, list[float]]) -> tuple[str, str]:
    """Return the median of theirs over ours, and the least and the greatest."""
    ratios = [theirs / ours for ours, theirs in zip(samples["ours"], samples["theirs"], strict=True)]
    return f"**{statistics.median(ratios):.2f}**", f"{min(ratios):.2f}–{max(ratios):.2f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _note(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@contextmanager
def synthetic(shape: str, kind: str, arguments: argparse.Namespace) -> Iterator[Path]:
    """Write a file, or find it in --keep's folder; delete it at the end unless it is to be kept."""
    from synthetic import SHAPES, Synthetic

    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="versus-"))
    path = folder / f"{shape}-{kind}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _note(f"writing {path.name}")
            form = SHAPES[shape]
            vocabulary = arguments.vocab or arguments.vocab_dir / form.vocabulary
            Synthetic(path, form, kind, seed=0).write(vocabulary)
            os.sync()
        yield path
    finally:
        if not arguments.keep:
            path.unlink(missing_ok=True)
            folder.rmdir()


def compare(name: str, path: Path, arguments: argparse.Namespace) -> Comparison:
    """Measure one file and print its lines."""
    warm(path)
    comparison = Comparison(Model.read(name, path, arguments.cache_type), arguments)
    comparison.run()
    _note("")
    if arguments.json != "-":
        print(_row(f"**{name}**", *[""] * 5))
        print(*comparison.rows(), sep="\n", flush=True)
    return comparison


def each(arguments: argparse.Namespace) -> Iterator[Comparison]:
    """Measure the files that are named, then the synthetic ones; say which could not be measured, and go on."""
    for path in arguments.models:
        with telling(path.stem):
            yield compare(path.stem, path, arguments)
    for shape in arguments.shapes:
        for kind in arguments.types:
            name = f"{shape} {kind}"
            with telling(name), synthetic(shape, kind, arguments) as path:
                yield compare(name, path, arguments)


@contextmanager
def telling(name: str = "") -> Iterator[None]:
    """Print an error with its hint instead of raising it."""
    try:
        yield
    except MullError as error:
        _note("")
        print(f"error: {name + ': ' if name else ''}{error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)


def footer(done: list[Comparison], arguments: argparse.Namespace) -> str:
    """Name the machine, the versions and the settings."""
    from mull.cli.bench import cpu_name

    read = [value for c in done for s in c.samples.values() for value in s.get("bandwidth", ())]
    abouts = dict.fromkeys(about for c in done for about in c.about)
    lines = [
        f"{cpu_name()}, {os.cpu_count()} logical cores; {arguments.threads} threads read "
        f"{statistics.median(read) / 1e9:.1f} GB/s from memory; "
        f"rounds: {arguments.rounds}; tokens decoded in each: {arguments.generate}",
        *abouts,
        f"other programs used {100 * statistics.mean(p for c in done for p in c.pauses):.0f} % of the cores",
        "ratio: the median over the rounds, above 1 where mull is better; of bandwidth: mull / llama.cpp",
    ]
    return "\n" + "\n".join(f"- {line}" for line in lines)


def report(done: list[Comparison], arguments: argparse.Namespace) -> None:
    """Print the footer, and write the samples where --json asks for them."""
    text = footer(done, arguments)
    if arguments.json != "-":
        print(text)
    if arguments.json:
        facts = [line.removeprefix("- ") for line in text.splitlines() if line]
        record = json.dumps(
            {"about": facts, "models": [c.to_json() for c in done]}, indent=2, ensure_ascii=False
        )
        if arguments.json == "-":
            print(record)
        else:
            Path(arguments.json).write_text(record + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line; raise InvalidRequest for what does not fit together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.gguf")
    parser.add_argument(
        "--shapes", type=_words, default=[], help="synthetic models, such as llama-1b,qwen3-0.6b"
    )
    parser.add_argument(
        "--types", type=_words, default=["q4_k_m"], help="their file types, such as q4_k_m,q8_0"
    )
    parser.add_argument("--vocab", type=Path, help="a GGUF whose vocabulary they take")
    parser.add_argument("--vocab-dir", type=Path, help="or a folder of llama.cpp's ggml-vocab-*.gguf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4000, help="0: do not measure decoding at a depth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache-type", choices=CACHE_TYPES, default="f16", help="for keys and values")
    parser.add_argument("--cpu", metavar="NAME", help="the instruction set of mull's kernels, such as avx2")
    parser.add_argument("--llama-lib", type=Path, metavar="DIR", help="a folder with another libllama.so")
    parser.add_argument(
        "--json", metavar="FILE", help="write every sample to a file; -: to stdout, without a table"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep synthetic files there, and use those there"
    )
    arguments = parser.parse_args()
    check(arguments)
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """Raise InvalidRequest for a model, shape, type or number that cannot be."""
    from synthetic import RECIPES, SHAPES

    if not arguments.models and not arguments.shapes:
        raise InvalidRequest("there is no model to measure", hint="name a GGUF file, or --shapes llama-1b")
    for path in arguments.models:
        if not path.is_file():
            raise InvalidRequest(f"{path}: no such file")
    for name, known in (*((s, SHAPES) for s in arguments.shapes), *((t, RECIPES) for t in arguments.types)):
        if name not in known:
            raise InvalidRequest(f"there is no {name!r}", hint=f"one of {', '.join(known)}")
    if arguments.shapes and not (arguments.vocab or arguments.vocab_dir):
        raise InvalidRequest("a synthetic model needs a vocabulary", hint="--vocab-dir, or --vocab")
    if (
        min(arguments.threads, arguments.prompt, arguments.generate, arguments.rounds) < 1
        or arguments.depth < 0
    ):
        raise InvalidRequest("threads, prompt, generate and rounds must be above 0")
    if arguments.json and not Path(arguments.json).parent.is_dir():
        raise InvalidRequest(f"{arguments.json}: there is no such folder")
    if arguments.llama_lib and not (arguments.llama_lib / "libllama.so").is_file():
        raise InvalidRequest(f"{arguments.llama_lib}: there is no libllama.so")
    if not find_spec("llama_cpp"):
        raise NotSupported("llama-cpp-python is not installed", hint=INSTALL)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def main() -> int:
    """Compare, and return the exit status: 0 if every model was measured."""
    with telling():
        arguments = parse()
        if arguments.json != "-":
            print(_row("", "mull", "llama.cpp", "ratio", "range", "of bandwidth"))
            print("|---|--:|--:|--:|--:|--:|", flush=True)
        done = list(each(arguments))
        if done:
            report(done, arguments)
        return int(len(done) < len(arguments.models) + len(arguments.shapes) * len(arguments.types))
    return 1


if __name__ == "__main__":
    sys.exit(main())
