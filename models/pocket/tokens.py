"""The byte-level BPE vocabulary of "pocket": bytes, merges learned on its conversations, special tokens."""

import json
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel

from .dialogues import Mix, make_dialogue
from .problems import MAX_SIZE

VOCAB_SIZE = 512
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAG_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>")

# Qwen2's split; each digit stands alone.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(seed: int = 0, num_dialogues: int = 6000) -> Tokenizer:
    """Learn the merges on generated conversations; arrows stay out, so that each is three tokens."""
    rng = random.Random(seed)
    mix = Mix(arrow=0.0, off_topic=0.4)
    texts = []
    for _ in range(num_dialogues):
        text = "".join(s.text for s in make_dialogue(rng, mix, dict(MAX_SIZE)))
        for special in (*CONTROL_TOKENS, *TAG_TOKENS):
            text = text.replace(special, "")
        texts.append(text)
    tokenizer = _bare(models.BPE())
    num_special = len(CONTROL_TOKENS) + len(TAG_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - num_special, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    _, merges = vocabulary(tokenizer)
    return build_tokenizer(merges)


def build_tokenizer(merges: list[str]) -> Tokenizer:
    """Make the tokenizer from its merges; bytes come first, then merges in order, then the special tokens."""
    pairs = [(a, b) for a, _, b in (merge.partition(" ") for merge in merges)]
    tokens = [*sorted(ByteLevel.alphabet()), *(a + b for a, b in pairs)]
    tokenizer = _bare(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    tokenizer.add_special_tokens([*CONTROL_TOKENS, *TAG_TOKENS])
    return tokenizer


def token_id(tokenizer: Tokenizer, text: str) -> int:
    """Give the id of a token that must be there."""
    found = tokenizer.token_to_id(text)
    assert found is not None
    return found


def vocabulary(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Give every token in id order, and the merges in order, each as "left right"."""
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return sorted(vocab, key=vocab.__getitem__), merges


def _bare(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
