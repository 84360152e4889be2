"""The table of samplers, one request's chain of them, and the draw of a token.

    logits ─► processors (bias, grammar, …) ─► the chain: penalties ► dry ► … ► temperature ─► the choice ─► token

A chain holds the samplers that depart from neutral, in the user's order. What it knows of a sequence it is told
token by token (`accept`): those that were drawn and those that were put in by force alike. Only the former passed it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from torch import Tensor

from ...errors import MullError
from . import filters
from .candidates import Candidates, highest_on_device, on_host
from .choice import choice_for
from .dry import DryHistory, is_dry, penalize_repetitions
from .params import SamplingParams
from .penalties import Window, penalize

if TYPE_CHECKING:
    from ..sequence import Sequence


@dataclass(slots=True)
class State:
    """What samplers may look at; `rng` is the sequence's own, so that nothing depends on its neighbours."""

    params: SamplingParams
    window: Window
    dry: DryHistory | None
    rng: random.Random


@dataclass(frozen=True, slots=True)
class Sampler:
    """One row of the table: it runs only where `is_neutral` is false.

    reshapes: it changes logits whatever the temperature, so that it counts for greedy choices, too.
    """

    apply: Callable[[Candidates, State], Candidates]
    is_neutral: Callable[[SamplingParams], bool]
    reshapes: bool = False


def _xtc(candidates: Candidates, state: State) -> Candidates:
    params = state.params
    # One throw for every token, whatever the candidates: the same seed goes on giving the same.
    if state.rng.random() >= params.xtc_probability:
        return candidates
    return filters.xtc(candidates, params.xtc_threshold, params.min_keep)


def _temperature(candidates: Candidates, state: State) -> Candidates:
    params = state.params
    if params.dynatemp_range > 0 and not params.mirostat:
        return filters.dynamic_temperature(
            candidates, params.temperature, params.dynatemp_range, params.dynatemp_exponent
        )
    return filters.temperature(candidates, params.temperature)


def _dry(candidates: Candidates, state: State) -> Candidates:
    assert state.dry is not None, "DRY has no history"
    return penalize_repetitions(candidates, state.dry, state.params)


def is_penalised(params: SamplingParams) -> bool:
    """Tell whether tokens that came lately are penalised."""
    penalties = (params.repeat_penalty, params.presence_penalty, params.frequency_penalty)
    return penalties != (1, 0, 0) and params.repeat_last_n != 0


# By the names of order.py. Adaptive-p is not among them: it is a way to choose (choice.py).
TABLE: Final[dict[str, Sampler]] = {
    "penalties": Sampler(
        lambda c, s: penalize(c, s.window, s.params), lambda p: not is_penalised(p), reshapes=True
    ),
    "dry": Sampler(_dry, lambda p: not is_dry(p), reshapes=True),
    "top_n_sigma": Sampler(
        lambda c, s: filters.top_n_sigma(c, s.params.top_n_sigma), lambda p: p.top_n_sigma <= 0
    ),
    "top_k": Sampler(lambda c, s: filters.top_k(c, s.params.top_k), lambda p: p.top_k == 0),
    "typ_p": Sampler(
        lambda c, s: filters.typical_p(c, s.params.typical_p, s.params.min_keep), lambda p: p.typical_p >= 1
    ),
    "top_p": Sampler(
        lambda c, s: filters.top_p(c, s.params.top_p, s.params.min_keep), lambda p: p.top_p >= 1
    ),
    "min_p": Sampler(
        lambda c, s: filters.min_p(c, s.params.min_p, s.params.min_keep), lambda p: p.min_p <= 0
    ),
    "xtc": Sampler(_xtc, lambda p: p.xtc_probability <= 0 or p.xtc_threshold > 0.5),
    "temperature": Sampler(_temperature, lambda p: p.temperature == 1 and p.dynatemp_range <= 0),
}


def active_samplers(params: SamplingParams) -> list[str]:
    """Return the names of the samplers that run, in order; mirostat leaves only the temperature."""
    order = ("temperature",) if params.mirostat else params.samplers
    if params.is_greedy:
        order = tuple(name for name in order if name in TABLE and TABLE[name].reshapes)
    return [name for name in order if name in TABLE and not TABLE[name].is_neutral(params)]


class Chain:
    """One sequence's samplers, what they know of it, and how it chooses; stands among its processors to be told."""

    def __init__(self, params: SamplingParams, history: list[int] | tuple[int, ...] = ()) -> None:
        names = active_samplers(params)
        size = params.repeat_last_n if "penalties" in names else 0
        recent = history if size < 0 else history[-size:] if size else ()
        self._params = params
        self._window = Window(size, recent)
        self._dry = DryHistory(params, history) if "dry" in names else None
        self._choice = choice_for(params)
        # The highest are found on the logits' own device, where they come first.
        begins_with_top_k = names[:1] == ["top_k"]
        self._head = params.top_k if begins_with_top_k else 1 if params.is_greedy and not names else None
        self._steps = [TABLE[name].apply for name in names[begins_with_top_k:]]

    def apply(self, logits: Tensor) -> Tensor:
        """Leave the logits to `draw`, which comes after all processors."""
        return logits

    def accept(self, token: int) -> None:
        """Note a token that the sequence has taken, from wherever it came."""
        self._window.accept(token)
        if self._dry is not None:
            self._dry.accept(token)
        self._choice.accept(token)

    def draw(self, logits: Tensor, rng: random.Random) -> int | None:
        """Draw a token from logits [vocab] with the sequence's own rng; None if every token is banned.

        Raises MullError if the logits are not numbers.
        """
        if self._head == 1 and not self._steps:  # nothing can warn
            best = highest_on_device(logits, 1)
            return best.token_at(0) if _is_possible(best.peak) else None
        # Every sampler knows minus infinity; numpy's warnings would tell nobody anything.
        with np.errstate(all="ignore"):
            candidates = on_host(logits) if self._head is None else highest_on_device(logits, self._head)
            if not _is_possible(candidates.peak):
                return None
            state = State(self._params, self._window, self._dry, rng)
            for step in self._steps:
                candidates = step(candidates, state)
            # Penalties may have gone beyond all bounds.
            if not _is_possible(candidates.peak):
                return None
            if self._params.is_greedy:
                return candidates.token_at(int(candidates.logits.argmax()))
            return self._choice.take(candidates, rng.random())


def draw_for(sequence: Sequence, logits: Tensor) -> int | None:
    """Draw a sequence's next token from logits [vocab], which are used up; None if every token is banned.

    Raises MullError if the logits are not numbers.
    """
    chain = None
    for processor in sequence.processors:
        if isinstance(processor, Chain):
            chain = processor
        logits = processor.apply(logits)
    if chain is None:
        chain = Chain(sequence.request.sampling, sequence.tokens)
        sequence.processors.append(chain)
    return chain.draw(logits, sequence.rng)


def _is_possible(peak: float) -> bool:
    """Tell whether there is a token to draw; raises MullError if the highest logit is no number."""
    if math.isfinite(peak):
        return True
    if peak == -math.inf:
        return False
    raise MullError(
        "the model's logits are not finite numbers",
        hint="the weights may be damaged, or overflow in this compute type: try --dtype f32",
    )
