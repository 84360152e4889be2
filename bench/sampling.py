"""Measure what it takes to draw one token, by sampling options.

    python bench/sampling.py [--vocab 151936] [--draws 200]

The logits are random, with 200 that stand out, as a model's do. Prints the median time of a draw in microseconds.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import mull.kernels.cpu.native  # noqa: F401  # where the highest logits are found
import torch
from mull.runtime.request import Request
from mull.runtime.sampling.draw import draw_for
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.processors import processors_for
from mull.runtime.sequence import Sequence

OPTIONS: dict[str, dict[str, object]] = {
    "default": {},
    "greedy": {"temperature": 0.0},
    "penalties": {"repeat_penalty": 1.1},
    "dry": {"dry_multiplier": 0.8},
    "ignore_eos": {"ignore_eos": True},
    "typical_p 0.9": {"typical_p": 0.9},
    "top_n_sigma 1": {"top_n_sigma": 1.0},
    "xtc 0.5": {"xtc_probability": 0.5},
    "adaptive_p 0.3": {"adaptive_target": 0.3},
    "top_k 0": {"top_k": 0},
    "top_k 0, typical_p 0.9": {"top_k": 0, "typical_p": 0.9},
    "temperature only": {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "mirostat 1": {"mirostat": 1},
    "mirostat 2": {"mirostat": 2},
    "logprobs 5": {"logprobs": 5},
}


def row(vocab: int) -> torch.Tensor:
    """Return logits [vocab] of which 200 stand out."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(vocab, generator=generator) * 2
    logits[torch.randint(vocab, (200,), generator=generator)] += torch.rand(200, generator=generator) * 9 + 5
    return logits


def measure(options: dict[str, object], logits: torch.Tensor, draws: int) -> float:
    """Return the median microseconds of a draw and its note by the samplers."""
    request = Request(tuple(range(100)), SamplingParams(**options), frozenset({5, 6}))  # type: ignore[arg-type]
    sequence = Sequence(request, None, processors_for(request))  # type: ignore[arg-type]
    times = []
    for _ in range(draws):
        fresh = logits.clone()
        started = time.perf_counter()
        token = draw_for(sequence, fresh)
        assert token is not None
        for processor in sequence.processors:
            processor.accept(token)
        times.append(time.perf_counter() - started)
    return median(times) * 1e6


def main() -> None:
    """Read the command line, measure every set of options, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logits = row(given.vocab)
    for name, options in OPTIONS.items():
        print(f"{name:24}{measure(options, logits, given.draws):8.0f} µs")


if __name__ == "__main__":
    main()
