"""Small vocabularies as GGUF metadata, one of each kind, for tests of tokenizers."""

from __future__ import annotations

from mull.runtime.tokenizer.vocabulary import byte_alphabet

Metadata = dict[str, object]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
LETTERS = {byte: char for char, byte in byte_alphabet().items()}


def spell(text: str) -> str:
    """Write a text in GPT-2's byte alphabet."""
    return "".join(LETTERS[byte] for byte in text.encode())


def byte_level(pre: str = "gpt-2", **more: object) -> Metadata:
    """All 256 bytes, a few merges, five special tokens (256 + 4 merges onwards)."""
    merges = [(spell(a), spell(b)) for a, b in (("h", "e"), ("l", "l"), ("he", "ll"), (" ", "w"))]
    tokens = [LETTERS[byte] for byte in range(256)] + [a + b for a, b in merges]
    special = [("<|bos|>", CONTROL), ("<|im_end|>", CONTROL), ("<think>", USER_DEFINED)]
    special += [("[PAD0]", UNUSED), ("  \n", USER_DEFINED)]
    return _metadata(
        "gpt2",
        tokens + [text for text, _ in special],
        [NORMAL] * len(tokens) + [kind for _, kind in special],
        {
            "pre": pre,
            "merges": [f"{a} {b}" for a, b in merges],
            "bos_token_id": 260,
            "eos_token_id": 261,
            **more,
        },
    )


def sentencepiece(**more: object) -> Metadata:
    """Llama's layout: <unk> <s> </s>, 256 bytes, then pieces whose score falls with their id."""
    pieces = ["▁", "h", "e", "l", "o", "w", "é", "▁h", "▁he", "ll", "llo", "▁hello", "▁w", "▁▁", "世"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, "<|user|>", "<b>"]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(pieces) + [CONTROL, USER_DEFINED]
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))] + [0.0, 0.0]
    return _metadata("llama", tokens, types, {"scores": scores, **more})


def wordpiece(**more: object) -> Metadata:
    """BERT's layout, with few words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁hello", "▁he", "llo", "▁world", "s", "▁.", "▁,", "▁a"]
    types = [CONTROL, UNKNOWN, CONTROL, CONTROL] + [NORMAL] * 8
    ids = {"unknown_token_id": 1, "cls_token_id": 2, "seperator_token_id": 3, "bos_token_id": 2}
    return _metadata("bert", tokens, types, {**ids, **more})


def _metadata(kind: str, tokens: list[str], types: list[int], more: Metadata) -> Metadata:
    entries = {"model": kind, "tokens": tokens, "token_type": types, **more}
    return {f"tokenizer.ggml.{key}": value for key, value in entries.items()}
