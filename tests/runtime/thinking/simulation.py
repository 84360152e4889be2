"""A sequence without a model: an automaton, and tokens that are drawn from anywhere."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from mull.runtime.thinking.automaton import Automaton
from mull.runtime.thinking.plan import Marks, ThinkingPlan

OPEN, CLOSE, EOS, TOOL = 0, 1, 2, 3
PIECES = [
    *(b"<think>", b"</think>", b"<|im_end|>", b"<tool_call>"),
    *(
        b"a",
        b" bee",
        b" sea",
        b"d",
        b"\n",
        b"\n\n",
        b".",
        b" .",
        b",",
        b"\xe7\xad\x89",
        b"\xe7",
        b"\xad",
        b"\x89",
    ),
    *(b"<", b"</", b"think", b">", b"/", b"1", b"3.", b"\xf0\x9f", b"\x98\x80", b" "),
]
LETTERS = {piece: token for token, piece in enumerate(PIECES)}

TAGS = Marks(
    opens=("<think>",),
    ends=("</think>",),
    close=(LETTERS[b"\n"], CLOSE, LETTERS[b"\n\n"]),
    close_inside=1,
    end_id=CLOSE,
    single=frozenset({OPEN, CLOSE}),
    tools=("<tool_call>",),
    tool_ids=(TOOL,),
)


def token_bytes(token: int) -> bytes:
    """Return a token's bytes."""
    return PIECES[token]


def ids_of(text: str) -> tuple[int, ...]:
    """Tokenize a text, the longest piece first."""
    data, found = text.encode(), []
    while data:
        token = max(
            (t for t, piece in enumerate(PIECES) if data.startswith(piece)), key=lambda t: len(PIECES[t])
        )
        found.append(token)
        data = data[len(PIECES[token]) :]
    return tuple(found)


@dataclass
class Run:
    """What became of one sequence: all its tokens, and those that were shown as they came."""

    automaton: Automaton
    tokens: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    steps: int = 0
    logits_seen: list[tuple[int, list[int]]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text."""
        return b"".join(map(token_bytes, self.tokens)).decode("utf-8", "replace")


Draw = Callable[[list[int]], int]


def run(plan: ThinkingPlan, draw: Draw, *, most: int = 400, temperature: float = 0.0, seed: int = 0) -> Run:
    """Draw until an end of text stays, at most `most` tokens; `draw` sees the tokens so far, and is asked again for
    a token that is banned."""
    automaton = Automaton(plan, token_bytes, frozenset({EOS}), clock=lambda: 0.0)
    made = Run(automaton, list(automaton.start()))
    rng = random.Random(seed)
    _show(made)
    while len(made.tokens) < most and EOS not in made.tokens:
        made.steps += 1
        wanted = draw(made.tokens)
        logits = torch.zeros(len(PIECES))
        logits[wanted] = 20.0
        logits = automaton.apply(logits)
        token = automaton.choose(logits, temperature, rng)
        if token is None:
            token = wanted if logits[wanted] > -math.inf else int(logits.argmax())
        made.tokens.append(token)
        verdict = automaton.take(token)
        if verdict is not None:
            kept = len(made.tokens) - verdict.drop
            assert made.tokens[:kept][: len(made.shown)] == made.shown, "something shown was taken back"
            made.tokens = made.tokens[:kept] + list(verdict.inject)
        _show(made)
    return made


def _show(made: Run) -> None:
    end = len(made.tokens) - made.automaton.num_held
    assert end >= len(made.shown), "something shown is held again"
    made.shown = made.tokens[:end]


def scripted(*parts: str | int) -> Draw:
    """Draw a script's tokens one after another, whatever is forced in between, then end the text."""
    script: Iterator[int] = iter(
        [t for part in parts for t in (ids_of(part) if isinstance(part, str) else (part,))]
    )
    return lambda tokens: next(script, EOS)


def thinking_tokens(tokens: list[int], *, opened: bool) -> int:
    """Count the tokens strictly between the tags, by what the texts say; independent of the automaton.

    A token in which a tag begins amid other text is still thought.
    """
    data = b"".join(map(token_bytes, tokens))
    count, at, inside, done = 0, 0, opened, 0
    while at < len(data) or inside:
        tag = b"</think>" if inside else b"<think>"
        found = data.find(tag, at)
        if found < 0:
            found = len(data) if inside else -1
        if found < 0 or (not inside and (done or data[:found].strip())):
            break
        if inside:
            ends = _ends(tokens)
            count += sum(at < end and start < found for start, end in ends)
            done += 1
        inside = not inside
        at = found + len(tag)
        if found == len(data):
            break
    return count


def _ends(tokens: list[int]) -> list[tuple[int, int]]:
    spans, at = [], 0
    for token in tokens:
        spans.append((at, at + len(token_bytes(token))))
        at = spans[-1][1]
    return spans
