"""Rows of token ids to train "pocket" on: conversations packed one after the other, and the loss over them."""

import random
from dataclasses import dataclass
from itertools import chain

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from .dialogues import CLOSE_THOUGHT, OPEN_THOUGHT, Mix, make_dialogue
from .network import PocketNetwork
from .problems import Kind
from .tokens import token_id

TOKENS_PER_STEP = 6144
Marked = tuple[list[int], list[bool]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids [rows, length] and, for each, whether it is learned."""

    ids: Tensor
    learned: Tensor


class Packer:
    """Turns conversations into full rows: several follow each other, and each sees those before it."""

    def __init__(self, tokenizer: Tokenizer, seed: int, mix: Mix, *, torn: bool = False) -> None:
        """Start an endless stream of conversations; `torn` lets rows end within one, however long it is."""
        self.tokenizer, self.mix, self.torn = tokenizer, mix, torn
        self.rng = random.Random(seed)
        self.pad = token_id(tokenizer, "<|endoftext|>")
        self.pool: list[Marked] = []

    def batch(self, length: int, sizes: dict[Kind, int], tokens: int = TOKENS_PER_STEP) -> Batch:
        """Make one step's rows, of `length` tokens each and about `tokens` in all."""
        draw = self._torn_row if self.torn else self._row
        rows = [draw(length, sizes) for _ in range(max(1, tokens // length))]
        return Batch(torch.tensor([ids for ids, _ in rows]), torch.tensor([learned for _, learned in rows]))

    def _row(self, length: int, sizes: dict[Kind, int]) -> Marked:
        ids: list[int] = []
        learned: list[bool] = []
        while True:
            while len(self.pool) < 32:
                self.pool.append(self.conversation(sizes))
            room = length - len(ids)
            fitting = next((i for i, (tokens, _) in enumerate(self.pool) if len(tokens) <= room), None)
            if fitting is None:
                break
            tokens, marks = self.pool.pop(fitting)
            ids += tokens
            learned += marks
        if not ids:  # every waiting conversation is longer than a row
            self.pool.clear()
            return self._row(length, sizes)
        return ids + [self.pad] * (length - len(ids)), learned + [False] * (length - len(ids))

    def _torn_row(self, length: int, sizes: dict[Kind, int]) -> Marked:
        """Take conversations as they come, so that long ones are as frequent as they should be."""
        ids: list[int] = []
        learned: list[bool] = []
        while len(ids) < length:
            tokens, marks = self.conversation(sizes)
            ids += tokens
            learned += marks
        return ids[:length], learned[:length]

    def conversation(self, sizes: dict[Kind, int]) -> Marked:
        """Draw one conversation: its ids, and whether each is learned."""
        segments = make_dialogue(self.rng, self.mix, sizes)
        pieces = [piece.ids for piece in self.tokenizer.encode_batch([segment.text for segment in segments])]
        marks = [[segment.learned] * len(piece) for segment, piece in zip(segments, pieces, strict=True)]
        if self.mix.cut and self.rng.random() < self.mix.cut:
            self._cut([segment.text for segment in segments], pieces, marks)
        return [*chain.from_iterable(pieces), self.pad], [*chain.from_iterable(marks), False]

    def _cut(self, texts: list[str], pieces: list[list[int]], marks: list[list[bool]]) -> None:
        """End the thought at a random token, if there is one, as a limit from outside would."""
        if OPEN_THOUGHT not in texts:
            return
        first, last = texts.index(OPEN_THOUGHT) + 1, texts.index(CLOSE_THOUGHT)
        at = self.rng.randrange(sum(map(len, pieces[first:last])))
        closing = self.tokenizer.encode("\n" + CLOSE_THOUGHT).ids
        thought, kept = [*chain.from_iterable(pieces[first:last])], [*chain.from_iterable(marks[first:last])]
        pieces[first : last + 1] = [thought[:at], closing]
        # To learn the close would be to learn to stop anywhere.
        marks[first : last + 1] = [kept[:at], [False] * len(closing)]


def loss_of(network: PocketNetwork, batch: Batch) -> Tensor:
    """Give the mean loss over the learned tokens."""
    wanted = batch.learned[:, 1:].flatten().nonzero()[:, 0]
    targets = batch.ids[:, 1:].flatten()[wanted]
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        hidden = network.hidden(batch.ids[:, :-1]).flatten(0, 1)[wanted]
        logits = network.logits(hidden)
    return F.cross_entropy(logits.float(), targets)
