"""What is taken back leaves nothing in a cache: every drawn token is what a fresh computation of the text gives.

A model with windows of 16 tokens, whose layers drop what they no longer see, and caches in full and in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import tiny
from mull.kernels.cpu import native
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.alone import Alone
from mull.runtime.assembly import make_engine
from mull.runtime.backend import Backend
from mull.runtime.engine import Engine
from mull.runtime.load_options import LoadOptions
from mull.runtime.request import Output, Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.thinking.plan import Marks, ThinkingPlan
from mull.runtime.tokenizer.load import load_tokenizer
from mull.runtime.tokenizer.tokenizer import Tokenizer

# What may differ by rounding alone; a token too many or too few in the cache differs by far more.
WITHIN = {"f32": 1e-3, "q8_0": 0.1}


@dataclass
class Windowed:
    """A tiny model, its engine, and what reports may differ by."""

    engine: Engine
    alone: Alone
    tokenizer: Tokenizer
    within: float

    def ids(self, text: str) -> tuple[int, ...]:
        """Return a text's tokens."""
        return tuple(self.tokenizer.encode(text, special=False))

    def plan(self, budget: int, **options: object) -> ThinkingPlan:
        """Return limits for a thought that the prompt has opened."""
        texts = {name: self.ids(text) if isinstance(text, str) else text for name, text in options.items()}
        marks = Marks(
            opens=("<think>",), ends=("</think>",), close=self.ids("\n</think>\n"), close_inside=1,
            end_id=self.ids("</think>")[0],
        )  # fmt: skip
        return ThinkingPlan(marks, budget, opened=True, loop=0, **texts)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=WITHIN)
def windowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windowed]:
    """A tiny Gemma 3 whose heads are wide enough for a cache in 8 bits."""
    kind = request.param
    if kind == "q8_0" and not native.instruction_sets():
        pytest.skip("a cache in 8 bits needs the native kernels")
    plain = tiny.TINY["gemma3"]
    wide = replace(plain, config={**plain.config, "head_dim": 32, "query_pre_attn_scalar": 32})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.TINY, "gemma3-wide", wide)
        model = tiny.build("gemma3-wide")
    path = tiny.write_gguf(model, "gemma3", tmp_path_factory.mktemp("windowed") / "model.gguf")
    options = LoadOptions(threads=1, cache_type_k=kind, cache_type_v=kind)
    with open_checkpoint(path) as checkpoint:
        backend = Backend(checkpoint, options)
        loaded, tokenizer = backend.load(None), load_tokenizer(checkpoint)
        engine = make_engine(loaded, backend, tokenizer, options, None)
        yield Windowed(engine, Alone(loaded, backend), tokenizer, WITHIN[kind])


WAYS: dict[str, dict[str, object]] = {
    "cut": {"budget": 60},
    "cut with a message": {"budget": 60, "message": "stop."},
    "wait": {"budget": 90, "minimum": 80, "rounds": 3},
    "probes": {"budget": 150, "exit": 1e-4, "answer_prefix": "a"},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_drawn_is_what_a_fresh_computation_gives(windowed: Windowed, way: str) -> None:
    engine, taken_back, compared = windowed.engine, 0, 0
    (full_stop,) = windowed.ids(".")  # is favoured, so that there is somewhere to go back to
    plan = windowed.plan(**WAYS[way], waits=(windowed.ids(" wait"),))  # type: ignore[arg-type]
    for seed in range(6):
        prompt = (1, *windowed.ids(f"Rivers flow. Lakes rest. {seed}\n"))
        bias = {full_stop: 3.0, 2: 4.0 if way == "wait" else -9.0}
        params = SamplingParams(temperature=1.2, seed=seed, max_tokens=190, logprobs=0, logit_bias=bias)
        sequence = engine.submit(Request(prompt, params, frozenset({2}), plan))
        last: Output | None = None
        while engine.has_work:
            last = engine.step()[-1]
        assert last is not None
        assert last.thinking is not None
        taken_back += last.thinking.discarded + last.thinking.probe_tokens
        fresh = windowed.alone.logits(sequence.tokens, 0).log_softmax(-1)
        for place, drawn in sequence.logprobs.items():
            assert sequence.tokens[place] == drawn.token
            assert float(fresh[place - 1, drawn.token]) == pytest.approx(drawn.logprob, abs=windowed.within)
        compared += len(sequence.logprobs)
    assert taken_back
    assert compared > 250
