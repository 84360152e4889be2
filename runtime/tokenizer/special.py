"""Which tokens end a generation, and which are markup whatever type the file gives them."""

from __future__ import annotations

from collections.abc import Iterable

from ...models.checkpoint.token_types import CONTROL, END_NAMES, NORMAL, USER_DEFINED
from .vocabulary import Vocabulary

# fill-in-the-middle: the first of each line ends a generation too
_FILL_END_NAMES = (
    ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    ("<|file_sep|>",),
)
_FILL_NAMES = (
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
    "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
    "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>",
    "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>",
)  # fmt: skip


def end_ids(vocabulary: Vocabulary, declared: Iterable[int]) -> frozenset[int]:
    """Return every id that ends a generation: the declared ones and those known by name."""
    ids = vocabulary.ids
    found = {i for i in declared if 0 <= i < len(vocabulary)}
    found.update(ids[name] for name in END_NAMES if name in ids)
    for names in _FILL_END_NAMES:
        found.update([ids[name] for name in names if name in ids][:1])
    if (end := ids.get("</s>")) is not None and vocabulary.token_type(end) == CONTROL:
        found.add(end)
    # Harmony's <|end|> closes one message of several; <|return|> and <|call|> close the turn
    if {"<|return|>", "<|call|>"} <= ids.keys() or (
        {"<|call|>", "<|calls|>"} & ids.keys() and "<|flush|>" in ids
    ):
        found.discard(ids.get("<|end|>", -1))
    return frozenset(found)


def mark_control(vocabulary: Vocabulary) -> Vocabulary:
    """Return the vocabulary with markup that files often declare as ordinary text made control tokens."""
    ids, types = vocabulary.ids, bytearray(vocabulary.types)
    fills = (name for names in _FILL_END_NAMES for name in names)
    for name in (*END_NAMES, *_FILL_NAMES, *fills):
        if name in ids and types[ids[name]] in (NORMAL, USER_DEFINED):
            types[ids[name]] = CONTROL
    # ordinary `</s>` is an HTML tag, and so is a declared one beside a proper <eos>
    if (end := ids.get("</s>")) is not None and types[end] == USER_DEFINED and "<eos>" not in ids:
        types[end] = CONTROL
    return vocabulary.with_types(bytes(types))
