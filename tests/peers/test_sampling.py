"""Every sampler leaves the ids and probabilities that llama.cpp's own leaves, on random logits and options."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.sampling.candidates import Candidates, softmax
from mull.runtime.sampling.choice import AdaptiveP, Mirostat, cut_by_slope, cut_by_surprise, prefer_near
from mull.runtime.sampling.draw import TABLE, State, active_samplers
from mull.runtime.sampling.dry import BreakerIndex, DryHistory, penalize_repetitions
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.sampling.penalties import Window
from mull.runtime.tokenizer.load import load_tokenizer
from peers.binding import Peer, library
from rows import by_id, ids, random_row

pytestmark = pytest.mark.peer

MAKERS: dict[str, Callable[[ModuleType, SamplingParams], object]] = {
    "penalties": lambda n, p: n.llama_sampler_init_penalties(
        0, p.repeat_last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty
    ),
    "dry": lambda n, p: n.llama_sampler_init_dry(
        None, p.dry_multiplier, p.dry_base, p.dry_allowed_length, p.dry_penalty_last_n, None, 0
    ),
    "top_n_sigma": lambda n, p: n.llama_sampler_init_top_n_sigma(p.top_n_sigma),
    "top_k": lambda n, p: n.llama_sampler_init_top_k(p.top_k),
    "typ_p": lambda n, p: n.llama_sampler_init_typical(p.typical_p, p.min_keep),
    "top_p": lambda n, p: n.llama_sampler_init_top_p(p.top_p, p.min_keep),
    "min_p": lambda n, p: n.llama_sampler_init_min_p(p.min_p, p.min_keep),
    "xtc": lambda n, p: n.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, p.min_keep, 1),
    "temperature": lambda n, p: n.llama_sampler_init_temp_ext(
        p.temperature, p.dynatemp_range, p.dynatemp_exponent
    ),
}
SOMETIMES: dict[str, tuple[object, ...]] = {
    "top_k": (0, 0, 1, 5, 40, 1000),
    "top_p": (1.0, 0.95, 0.5, 0.1),
    "min_p": (0.0, 0.05, 0.3),
    "min_keep": (0, 0, 1, 3, 20),
    "temperature": (0.3, 0.8, 1.0, 1.7),
    "dynatemp_range": (0.0, 0.2, 0.9),
    "dynatemp_exponent": (1.0, 0.5, 2.0),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.1, 0.02, 0.3, 0.6),
    "repeat_penalty": (1.0, 1.3),
    "presence_penalty": (0.0, 0.5),
    "frequency_penalty": (0.0, 0.7),
    "repeat_last_n": (0, 1, 5, 64),
    "dry_multiplier": (0.0, 0.8),
    "dry_base": (1.75, 1.0, 0.0, 3.0),
    "dry_allowed_length": (1, 2, 4),
    "dry_penalty_last_n": (0, 7, 30, 500),
}


class Theirs:
    """One of llama.cpp's samplers, or several in a row."""

    def __init__(self, *samplers: object) -> None:
        self.native = library()
        self.chain = self.native.llama_sampler_chain_init(self.native.llama_sampler_chain_default_params())
        for sampler in samplers:
            self.native.llama_sampler_chain_add(self.chain, sampler)

    def reset(self) -> None:
        self.native.llama_sampler_reset(self.chain)

    def accept(self, *tokens: int) -> None:
        for token in tokens:
            self.native.llama_sampler_accept(self.chain, token)

    def apply(self, logits: np.ndarray) -> tuple[dict[int, float], dict[int, float], int | None]:
        """Return the probabilities and logits of what is left, by id, and the token taken, if any."""
        data = (self.native.llama_token_data * len(logits))()
        for token, logit in enumerate(logits.tolist()):
            data[token].id, data[token].logit = token, logit
        choice = self.native.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
        self.native.llama_sampler_apply(self.chain, ctypes.byref(choice))
        left = [choice.data[i] for i in range(choice.size)]
        taken = left[choice.selected].id if choice.selected >= 0 else None
        return {item.id: item.p for item in left if item.p > 0}, {item.id: item.logit for item in left}, taken

    def __del__(self) -> None:
        self.native.llama_sampler_free(self.chain)


def ours(params: SamplingParams, logits: np.ndarray, history: list[int]) -> Candidates:
    """Run our samplers as a chain does."""
    names = active_samplers(params)
    size = params.repeat_last_n
    window = Window(size, history)
    state = State(params, window, DryHistory(params, history) if "dry" in names else None, random.Random(1))
    left = Candidates(logits)
    with np.errstate(all="ignore"):
        for name in names:
            left = TABLE[name].apply(left, state)
    return left


@pytest.mark.parametrize("seed", range(150))
def test_a_chain_in_any_order_leaves_the_same_candidates_with_the_same_probabilities(seed):
    native = library()
    rng = random.Random(seed)
    # Beside a banned token llama.cpp's typical-p computes with NaN: one of these two at a time.
    either = (
        {"typical_p": rng.choice([1.0, 0.2, 0.9])}
        if seed % 2
        else {"top_n_sigma": rng.choice([-1.0, 1.0, 2.5])}
    )
    params = SamplingParams(**either, **{name: rng.choice(values) for name, values in SOMETIMES.items()})
    order = list(MAKERS)
    if seed % 3:
        rng.shuffle(order)
    params = replace(params, samplers=tuple(order))
    logits = random_row(rng.choice([5, 50, 300, 2000, 5000]), seed, rng.choice([0.3, 1.0, 3.0, 6.0]))
    history = [rng.randrange(5) for _ in range(rng.randint(0, 80))]
    theirs = Theirs(*(MAKERS[name](native, params) for name in order), native.llama_sampler_init_dist(0))
    theirs.accept(*history)
    expected, _, _ = theirs.apply(logits)
    assert by_id(ours(params, logits, history)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe", "llama-spm", "gpt-2"])
def test_sequence_breakers_of_a_real_vocabulary(name, shared_data):
    path: Path = shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    tokenizer = load_tokenizer(open_checkpoint(path))
    texts = ("\n", ":", '"', "*", "user:", "end of line")
    params = BreakerIndex(tokenizer).fill(
        SamplingParams(
            dry_multiplier=0.8, dry_allowed_length=1, dry_penalty_last_n=60, dry_sequence_breakers=texts
        )
    )
    rng = random.Random(name)
    words = ["the", "user:", "said", "end", "of", "line", "again", "and\n", "again", "user", "of", "line\n"]
    with Peer(path, vocab_only=True) as peer:
        native = library()
        given = (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
        theirs = Theirs(native.llama_sampler_init_dry(peer.vocab, 0.8, 1.75, 1, 60, given, len(texts)))
        logits = np.zeros(peer.vocab_size, dtype=np.float32)
        for _ in range(8):
            # Words that come again and again, and now and then a breaker or its beginning.
            text = " ".join(rng.choice(words[: rng.randint(2, len(words))]) for _ in range(40))
            history = tokenizer.encode(text, special=False)
            theirs.reset()
            theirs.accept(*history)
            _, expected, _ = theirs.apply(logits)
            found = penalize_repetitions(Candidates(logits), DryHistory(params, history), params)
            lowered = {i: x for i, x in enumerate(found.logits.tolist()) if x}
            assert lowered == pytest.approx({i: x for i, x in expected.items() if x}, rel=1e-5)


def middle(left: Candidates, token: int) -> float:
    """Return the number from [0, 1) that stands for a token."""
    shares = softmax(left)
    place = ids(left).index(token)
    return float(shares[:place].sum() + shares[place] / 2)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_mirostat_keeps_and_learns_the_same(version, seed):
    native = library()
    tau, eta, size = 3.0 + seed / 4, 0.1 + seed / 20, 2000
    sampler = (
        native.llama_sampler_init_mirostat(size, seed, tau, eta, 100)
        if version == 1
        else native.llama_sampler_init_mirostat_v2(seed, tau, eta)
    )
    theirs = Theirs(sampler)
    rule = Mirostat(SamplingParams(mirostat=version, mirostat_tau=tau, mirostat_eta=eta))
    cut = cut_by_slope if version == 1 else cut_by_surprise
    for step in range(12):
        row = Candidates(random_row(size, 100 * seed + step, 2.5))
        expected, _, token = theirs.apply(row.logits)
        left = cut(row, rule.mu)
        assert by_id(left) == pytest.approx(expected, abs=1e-5)
        assert token is not None
        assert rule.take(row, middle(left, token)) == token
        rule.accept(token)


@pytest.mark.parametrize("target", [-1.0, 0.0, 0.1, 0.4, 1.0])
def test_adaptive_p_shapes_and_learns_the_same(target):
    theirs = Theirs(library().llama_sampler_init_adaptive_p(target, 0.9, 7))
    rule = AdaptiveP(SamplingParams(adaptive_target=target))
    for step in range(30):
        row = Candidates(random_row(60, step, 2.0))
        expected, _, token = theirs.apply(row.logits)
        shaped = row if target < 0 else Candidates(prefer_near(row.logits, softmax(row), rule.aim))
        assert by_id(shaped) == pytest.approx(expected, abs=1e-5)
        assert token is not None
        theirs.accept(token)
        if target >= 0:
            assert rule.take(row, middle(shaped, token)) == token
            rule.accept(token)


def test_a_bias_and_a_greedy_choice_are_the_same():
    native = library()
    logits = random_row(100, 1)
    pair = (native.llama_logit_bias * 2)((7, 20.0), (9, -np.inf))
    theirs = Theirs(native.llama_sampler_init_logit_bias(100, 2, pair), native.llama_sampler_init_greedy())
    assert theirs.apply(logits)[2] == 7
