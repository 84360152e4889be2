"""Ids equal llama.cpp's on real vocabularies and tiny ones, with special tokens parsed and not."""

from __future__ import annotations

from pathlib import Path

import pytest
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.tokenizer.load import load_tokenizer
from peers.binding import Peer

pytestmark = pytest.mark.peer

VOCABULARIES = [
    *("bert-bge", "command-r", "deepseek-llm", "falcon", "gpt-2", "llama-bpe"),
    *("llama-spm", "mpt", "phi-3", "qwen2", "starcoder"),
]

# A text that begins with BOS, or ends with EOS, gets no second one from us, and "</s>" is markup only where the
# vocabulary says so: none of these here. BERT's rule for accents is transformers' in ours.
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces\tand\r\n\r\n lines \n",
    "It's what they'll've said: I'M WE'RE, don't",
    "1234567890 3.14159 1,000,000 ½ ٣ 四",
    "Größe naïve Ελληνικά русский עברית العربية",
    "日本語のテキスト 中文",
    "🙂 👩‍👩‍👧 🇩🇪 e\u0301 é",
    "def f(x):\n    return {'a': [x ** 2, ~x]}  # comment\n\n\n",
    "[INST] hi [/INST] <s>a<|im_start|>user\nhi<|im_end|><|begin_of_text|><|eot_id|>",
    " <|user|> a <|end|>  b<|endoftext|>\n<|START_OF_TURN_TOKEN|><｜begin▁of▁sentence｜>[CLS] x [SEP].",
    "\u00a0no-break\u200bzero\ufeff width\u2028line \x00\x07",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa===========--------",
]

ACCENTED = ["हिन्दी", "한국어 ไทย"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_ids_equal(name: str, shared_data: Path) -> None:
    path = shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf"
    with open_checkpoint(path) as checkpoint, Peer(path, vocab_only=True) as peer:
        tokenizer = load_tokenizer(checkpoint)
        for text in TEXTS + ([] if name == "bert-bge" else ACCENTED):
            for parse_special in (False, True):
                for special in (False, True):
                    ids = tokenizer.encode(text, special=special, parse_special=parse_special)
                    expected = peer.tokenize(text, special=special, parse_special=parse_special)
                    assert ids == expected, (text, special, parse_special)
