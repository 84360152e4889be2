"""Time `llm quantize` against llama-quantize on one file, in turns, and compare the sizes of what they write.

    python bench/quantize.py llama-1b-f16.gguf --llama-quantize ~/llama.cpp/build/bin/llama-quantize

Each run is a process of its own, with the file in the page cache; what it wrote is deleted. A ratio is of one round,
above 1 where mull is faster; the table shows medians, and the least and the greatest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from programs import run, warm


def timed(command: tuple[object, ...], target: Path) -> tuple[float, int]:
    """Return the seconds that a program took, and the bytes that it wrote."""
    started = time.perf_counter()
    run(*command)
    seconds = time.perf_counter() - started
    size = target.stat().st_size
    target.unlink()
    return seconds, size


def main() -> None:
    """Print a line for each type."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--llama-quantize", type=Path, required=True, help="llama.cpp's program")
    parser.add_argument("--types", default="Q8_0,Q4_0,Q6_K,Q4_K_M")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where files are written (a temporary folder)")
    args = parser.parse_args()
    warm(args.model)
    program = Path(sys.executable).with_name("llm")
    print("| type | mull, s | llama-quantize, s | ratio | range | bytes |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        target = Path(folder) / "out.gguf"
        for kind in args.types.split(","):
            commands = (
                (program, "quantize", args.model, target, kind, "--threads", args.threads),
                (args.llama_quantize, args.model, target, kind, args.threads),
            )
            seconds: list[list[float]] = [[], []]
            sizes = [0, 0]
            for turn in range(args.rounds):
                for side in (0, 1)[:: -1 if turn % 2 else 1]:
                    took, sizes[side] = timed(commands[side], target)
                    seconds[side].append(took)
            ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
            ours, theirs = map(statistics.median, seconds)
            size = "the same" if sizes[0] == sizes[1] else f"{sizes[0]:,} / {sizes[1]:,}"
            print(
                f"| {kind} | {ours:.1f} | {theirs:.1f} | **{statistics.median(ratios):.2f}** "
                f"| {min(ratios):.2f}–{max(ratios):.2f} | {size} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
