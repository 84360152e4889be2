"""A vocabulary of bytes and of the tags that are one token each, and replies that are drawn from it."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from mull.chat.families.family import Family
from mull.chat.messages import MessageParser
from mull.chat.stream import Reasoning, StreamParser, Text
from mull.runtime.thinking.automaton import Automaton
from mull.runtime.thinking.plan import ThinkingPlan

EOS = 256


class Bytes:
    """A tokenizer: 256 bytes, the end of a text, and `tags`."""

    bos_id = None
    add_bos = False

    def __init__(self, *tags: str) -> None:
        self.tags = ["<eos>", *dict.fromkeys(tags)]
        self.vocab_size = 256 + len(self.tags)
        longest_first = sorted(self.tags, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]:
        ids: list[int] = []
        for part in self._pattern.split(text) if parse_special else [text]:
            is_tag = parse_special and part in self.tags
            ids += [256 + self.tags.index(part)] if is_tag else part.encode()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else self.tags[token_id - 256].encode()

    def token_text(self, token_id: int) -> str:
        return chr(token_id) if token_id < 256 else self.tags[token_id - 256]

    def token_id(self, text: str) -> int | None:
        return 256 + self.tags.index(text) if text in self.tags else None

    def is_special(self, token_id: int) -> bool:
        return token_id >= 256


def tags_of(family: Family) -> list[str]:
    """Return the texts of a family that are one token each in its own vocabularies."""
    texts = (
        *(family.open_tag or "",), *family.ends, *family.calls, *family.hidden, *family.unanswerable,
        *family.header_begins, *family.header_ends,
    )  # fmt: skip
    whole = re.compile(r"<\|?[^<>\n]*\|?>|\[/?[A-Z_]+\]")
    return [tag for text in texts for tag in whole.findall(text)]


@dataclass
class Reply:
    """A reply: its tokens, and what a user sees of it."""

    automaton: Automaton
    tokens: list[int] = field(default_factory=list)
    thought: str = ""
    answer: str = ""


def reply(
    plan: ThinkingPlan, family: Family, words: Bytes, draw: Callable[[Automaton], int], most: int = 900
) -> Reply:
    """Draw tokens until an end of text stays; a token that is banned gives way to the likeliest that is not."""
    automaton = Automaton(plan, words.token_bytes, frozenset({EOS}), clock=lambda: 0.0)
    made = Reply(automaton, list(automaton.start()))
    rng = random.Random(0)
    while EOS not in made.tokens and len(made.tokens) < most:
        logits = torch.zeros(words.vocab_size)
        wanted = draw(automaton)
        logits[wanted] = 20.0
        logits[ord("x")] = 1.0
        logits = automaton.apply(logits)
        token = automaton.choose(logits, 0.0, rng)
        if token is None:
            token = wanted if logits[wanted] > -math.inf else int(logits.argmax())
        made.tokens.append(token)
        verdict = automaton.take(token)
        if verdict is not None:
            made.tokens = made.tokens[: len(made.tokens) - verdict.drop] + list(verdict.inject)
    show(made, family, words)
    return made


def show(made: Reply, family: Family, words: Bytes) -> None:
    """Tell thought and answer apart as a user would see them."""
    make = MessageParser if family.header_begins else StreamParser
    parser = make(family, opened=made.automaton.plan.opened)
    text = words.decode(token for token in made.tokens if token != EOS)
    for event in [event for letter in text for event in parser.feed(letter)] + parser.flush():
        if isinstance(event, Reasoning):
            made.thought += event.text
        elif isinstance(event, Text):
            made.answer += event.text


def scripted(words: Bytes, text: str) -> Callable[[Automaton], int]:
    """Draw a text's tokens one after another, whatever is forced in between, then the end of the text."""
    script = iter(words.encode(text, parse_special=True))
    return lambda automaton: next(script, EOS)


def endless(words: Bytes, opening: str, answer: str) -> Callable[[Automaton], int]:
    """Open a thought that never ends; once it is ended by force, answer."""
    opened = iter(words.encode(opening, parse_special=True))
    thought = iter(" bee" * 10_000)
    said = iter(words.encode(answer, parse_special=True))

    def draw(automaton: Automaton) -> int:
        if automaton.thinking:
            return ord(next(thought))
        return next(opened, None) or next(said, EOS)

    return draw
