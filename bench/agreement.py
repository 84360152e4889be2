"""Measure how far our next-token distributions are from llama.cpp's on the same file.

    python bench/agreement.py MODEL.gguf [--tokens 512] [--dtype auto]

Prints the mean, median and largest KL divergence D(llama.cpp || mull) over the positions, in nats, and how often
both prefer the same token. Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions


def theirs(path: Path, ids: list[int]) -> torch.Tensor:
    """Return llama.cpp's logits [len(ids), vocab], float32."""
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=len(ids), n_batch=512, logits_all=True, n_threads=2, verbose=False)
    model.eval(ids)
    logits = torch.from_numpy(np.array(model.scores[: len(ids)], dtype=np.float32))
    model.close()
    return logits


def divergence(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return D(reference || other) of each row's softmax, float64 [rows]."""
    p, q = reference.double().log_softmax(-1), other.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def main() -> None:
    """Read the command line, run both, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    with LLM.open(
        str(arguments.model), LoadOptions(dtype=arguments.dtype, num_ctx=arguments.tokens)
    ) as model:
        rng = random.Random(0)
        ids = [rng.randrange(256, model.tokenizer.vocab_size - 512) for _ in range(arguments.tokens)]
        ours = model.logits(ids)
    reference = theirs(arguments.model, ids)
    kl = divergence(reference, ours)
    same = (reference.argmax(-1) == ours.argmax(-1)).double().mean()
    print(
        f"KL mean {kl.mean():.2e}  median {kl.median():.2e}  max {kl.max():.2e} nats  "
        f"same choice {100 * same:.1f} %  over {len(ids)} positions"
    )


if __name__ == "__main__":
    main()
