"""What an end leaves of a character or a tag that the model had only begun: nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import fakes
import pytest
import torch
from mull.runtime.request import Request
from mull.runtime.sampling.params import SamplingParams
from mull.runtime.thinking.automaton import Automaton
from mull.runtime.thinking.plan import ThinkingPlan

from .simulation import CLOSE, EOS, LETTERS, PIECES, TAGS, TOOL, Run, ids_of, run, scripted
from .test_engine import engine

TORN = {
    "a byte": (LETTERS[b"\xe7"],),
    "two bytes": (LETTERS[b"\xe7"], LETTERS[b"\xad"]),
    "half a pair": (LETTERS[b"\xf0\x9f"],),
    "a bracket": (LETTERS[b"<"],),
    "half a tag": (LETTERS[b"</"], LETTERS[b"think"]),
}
CALLS = replace(TAGS, tool_ends=True)
SPELLED = replace(CALLS, tools=("<think/>",), tool_ids=())


def plan(budget: int = 60, **options: object) -> ThinkingPlan:
    return ThinkingPlan(**{"marks": CALLS, "budget": budget, "opened": True, "soft": 0.0, **options})  # type: ignore[arg-type]


def reason(made: Run) -> str | None:
    return made.automaton.report().reason


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
@pytest.mark.parametrize(("end", "name"), [(EOS, "eos"), (TOOL, "tool")])
def test_an_end_that_is_no_tag_takes_back_what_is_torn(torn, end, name):
    made = run(plan(), scripted(" bee", *torn, end, " sea"))
    call = "<tool_call>" if end == TOOL else ""
    assert made.text == f" bee\n</think>\n\n{call} sea<|im_end|>"
    assert (reason(made), made.automaton.report().discarded) == (name, len(torn))
    assert made.automaton.num_thinking == 2


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_so_does_wait(torn):
    made = run(plan(minimum=50, rounds=1, waits=(ids_of("\n bee"),)), scripted(" sea", *torn, EOS, " d" * 9))
    assert made.text.startswith(" sea\n bee")
    assert made.automaton.report().discarded == len(torn) + 1


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_amid_a_character_or_a_tag_no_end_is_favoured(torn):
    """A paragraph's end is as good a place as any, but not with half of something after it."""

    def favoured(*after: int) -> bool:
        automaton = Automaton(plan(40, soft=0.5), lambda token: PIECES[token], frozenset({EOS}))
        for token in (*ids_of(" bee" * 29 + ".\n\n"), *after):
            assert automaton.take(token) is None
        logits = torch.zeros(len(PIECES))
        logits[LETTERS[b"d"]], logits[CLOSE] = 9.0, 5.0
        return automaton.choose(logits, 0.0, random.Random(0)) == CLOSE

    assert favoured()
    assert not favoured(*torn)


def test_a_call_of_several_tokens_leaves_what_was_shown_before_it():
    """Half a character that something else followed is known to be no more than that, and was given out."""
    script = (LETTERS[b"\xe7"], *ids_of("<"), *ids_of("think"), *ids_of("/"), *ids_of(">"))
    made = run(plan(marks=SPELLED), scripted(" bee", *script, "d"))
    assert b"".join(PIECES[token] for token in made.tokens).startswith(b" bee\xe7\n</think>\n\n<think/>d")
    assert reason(made) == "tool"


def test_a_call_that_begins_amid_a_token_is_whole_after_the_end():
    pieces = [*PIECES, b"a<think"]
    automaton = Automaton(plan(marks=SPELLED), lambda token: pieces[token], frozenset({EOS}))
    assert [automaton.take(token) for token in (LETTERS[b" bee"], len(PIECES), LETTERS[b"/"])] == [None] * 3
    verdict = automaton.take(LETTERS[b">"])
    assert verdict is not None
    assert (verdict.drop, b"".join(pieces[token] for token in verdict.inject)) == (
        3,
        b"\n</think>\n\na<think/>",
    )


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
@pytest.mark.parametrize("end", [EOS, TOOL])
@pytest.mark.parametrize("opened", [True, False])
def test_what_is_taken_back_is_accounted_for(torn, end, opened):
    opening = () if opened else ids_of("<think>")
    script = (*opening, *ids_of(" bee"), *torn, end)
    answer = (*ids_of(" bee"), *TAGS.close, *((TOOL,) if end == TOOL else ()))
    logits = fakes.scripted({(4, 0): script, (4, 0, *opening, *answer): (*ids_of(" sea"), EOS)}, len(PIECES))
    made = engine(logits, num_blocks=64)
    params = SamplingParams(temperature=0, max_tokens=100)
    made.submit(Request((4, 0), params, frozenset({EOS}), plan(opened=opened), id="r"))
    outputs = fakes.drain(made)["r"]
    last = outputs[-1]
    assert fakes.tokens_of(outputs) == (*opening, *answer, *ids_of(" sea"), EOS)
    assert last.thinking is not None
    assert last.num_forwarded == 2 + last.num_sampled - 1 + last.thinking.injected == made.runner.num_tokens
