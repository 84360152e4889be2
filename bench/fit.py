"""Compare what `llm fit` expects a model to take with the peak of a process that fills its context.

    python bench/fit.py MODEL... [--num-ctx 4096] [--cache-type f16]

Each model is loaded by a process of its own, which computes a prompt of English text that leaves room for a
reply of 16, and tells the largest memory that it ever had (VmHWM). The ratio should be between 0.9 and 1.1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from mull.chat.request import ChatRequest
from mull.llm import LLM
from mull.models.checkpoint.open import open_checkpoint
from mull.registry.target import find_target
from mull.runtime.fit import estimate
from mull.runtime.load_options import LoadOptions
from mull.runtime.machine import Machine, process_bytes
from mull.settings import load_settings

REPLY = 16
TEXTS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
MB = 1 << 20


def main() -> None:
    """Measure each model in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--num-ctx", type=int, default=4096)
    parser.add_argument("--cache-type", default="auto")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    options = LoadOptions(
        num_ctx=args.num_ctx,
        cache_type_k=args.cache_type,
        cache_type_v=args.cache_type,
        cpu=load_settings().cpu,
    )
    if args.peak:
        print(peak(args.models[0], options))
        return
    machine = Machine(free=1 << 50, total=1 << 50, process=process_bytes())
    print(f"{'model':24} {'context':>8} {'expected':>10} {'measured':>10} {'ratio':>6}   MB")
    for model in args.models:
        with open_checkpoint(find_target(model).path) as checkpoint:
            fit = estimate(checkpoint, options, machine)
        again = [sys.executable, __file__, model, "--peak", "--num-ctx", str(args.num_ctx)]
        done = subprocess.run(
            [*again, "--cache-type", args.cache_type], stdout=subprocess.PIPE, text=True, check=True
        )
        measured, expected = int(done.stdout), fit.caches[0].asked.peak_bytes
        name = Path(model).name[-24:]
        ratio = expected / measured
        print(
            f"{name:24} {fit.context:>8} {expected / MB:>10.0f} {measured / MB:>10.0f} {ratio:>6.3f}",
            flush=True,
        )


def peak(model: str, options: LoadOptions) -> int:
    """Load a model, fill its context and return the most bytes that this process had."""
    with LLM.open(model, options) as llm:
        length = llm.context_length - 2 * REPLY
        tokens = llm.tokenizer.encode("\n".join(text.read_text("utf-8") for text in TEXTS))
        prompt = (tokens * (length // len(tokens) + 1))[:length]
        request = ChatRequest(
            raw="x", context=tuple(prompt), options={"num_predict": REPLY, "temperature": 0}
        )
        for _ in llm.chat(request):
            pass
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
