"""Measure what a thinking budget costs in decoding speed: the same thought with and without one, in turns.

    python bench/budget_cost.py MODEL [--tokens 64] [--rounds 15]

Prints the median rate of each and the median ratio over the rounds. The text is whatever the model writes within a
thought that the prompt has opened; bench/synthetic.py makes files of real shapes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping

from mull.chat.request import ChatRequest
from mull.chat.stream import Done
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions

PROMPT = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def rate(llm: LLM, prompt: str, tokens: int, options: Mapping[str, object]) -> float:
    """Return the tokens generated per second after the first."""
    request = ChatRequest(
        raw=prompt,
        options={"temperature": 0.8, "seed": 1, "ignore_eos": True, "num_predict": tokens, **options},
    )
    *_, done = llm.chat(request)
    assert isinstance(done, Done)
    return 1000 * (done.usage.completion_tokens - 1) / done.usage.eval_ms


def main() -> None:
    """Read the command line, measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with LLM.open(args.model, LoadOptions(speculate="off")) as llm:
        # Without an open thought a raw prompt has no budget; with one it always has.
        arms = {"no budget": (PROMPT, {}), "budget": (f"{PROMPT}<think>\n", {"think_reserve": 1})}
        for prompt, options in arms.values():
            rate(llm, prompt, args.tokens, options)
        rates: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(args.rounds):
            for name, (prompt, options) in arms.items():
                rates[name].append(rate(llm, prompt, args.tokens, options))
    for name, found in rates.items():
        print(f"{name:10} {statistics.median(found):8.2f} tok/s")
    ratios = [b / a for a, b in zip(rates["no budget"], rates["budget"], strict=True)]
    print(f"ratio      {statistics.median(ratios):8.4f}")


if __name__ == "__main__":
    main()
