"""Which of GGUF's pre-tokenizers cuts text as a tokenizer.json does: found by watching both cut the same text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

from ...errors import TokenizerError
from ..checkpoint.library import LibraryErrors
from ..checkpoint.pretokenizers import PRE_TOKENIZERS, PreTokenizer

# Where several names stand for the same cuts, those that llama.cpp has known the longest.
_PREFERRED = (
    "llama-bpe", "gpt-2", "qwen2", "starcoder", "tekken", "gpt-4o", "dbrx", "deepseek-v3", "bloom", "bailingmoe",
)  # fmt: skip
# Tokens of a vocabulary that are put into probes.
_NUM_SAID = 4000
_HARMLESS = {"NFC", "NFKC"}

# Every rule set known so far cuts one of these in a way of its own.
PROBES = (
    "I've SAID we'Re they'LL, don'T it's I'M you'd 'tis o'clock ''s 'S",
    "1 22 333 4444 55555 666666 1234567 3.14 1,000,000 x1y22z333 ½²③ ٣٤٥ 四五 १२३४",
    "  two   spaces\tand\t\ttabs \r\n\r\n lines \n\n\n  \n end  ",
    "camelCase HTTPServer XMLHttpRequest ÀÉÎõü ǅungla ŉǰ ʰʷ ªº ﬁ ﬂ",
    '!!! ... ?! --- ___ a_b __init__ $5 £6 €7 +1 <=> ~^| `code` {x} [y] (z) \\n "q" #h @u &a *b* %c ;d :e /f/ //',
    "日本語のテキスト、中文字符。「引用」！？ 한국어 텍스트 ㄱㄴ ไทยภาษา ភាសាខ្មែរ မြန်မာ ພາສາລາວ ㄅㄆ ｱｲｳ ！～",
    "हिन्दी में लिखा বাংলা தமிழ் עברית שָׁלוֹם العربية مَرْحَبًا русский Ελληνικά ქართული Ꭰᏸ Ⱡⱡ",
    "e\u0301a\u0300 n\u0303o 🙂👍🏽 👩‍👩‍👧 🇩🇪 ✅ → ∑ × ÷ © ™ ° § ¿ ¡ « » “ ” ‘ ’ … – —",
    "\u00a0nbsp\u200bzero\u2028line\u3000wide\x0b\x0c\x85x a\rb\nc /\n //\n !\n.\r\n;\n\n }\n\t}\n",
    "aé\u0301b 'aé x\u0301\u0302 \u0301start ١٢٣٤٥٦٧ 123\n456 7 8\t9 a1 1a A1B2 1st 2nd",
    "foo bar.baz qux,quux; (IMGIMG)A <sentinel:1> =====   ====  ==\n= - -- --- a-b 9-8 a'b 1'2 ॐ ۞ ෴ ،؟ ।॥",
    "The End\n \n  next\n\n\tindented   \n trailing \t\n\nI.B.M. U.S.A. e.g. 10.5e-3 0xFF #123 v1.2.3 $9.99!",
    "it'stuff we'realm I'Mage   12  3 a  4\n  5\n\n  6\t\t7" + " " * 700 + "x" + "\n" * 40 + "y" + " \n" * 9,
)


def pre_name(state: Mapping[str, object]) -> str:
    """Return the `tokenizer.ggml.pre` of a byte-level tokenizer.json; raise TokenizerError if none cuts alike.

    state: the parsed file.
    """
    _check_normalizer(state.get("normalizer"))
    with LibraryErrors():
        wanted = _cuts(_splitter(state))
    byte_level = {name: rules for name, rules in PRE_TOKENIZERS.items() if not rules.raw}
    alike = [name for name, rules in byte_level.items() if _cuts(_sequence(rules)) == wanted]
    alike = alike or _same_ids(state, byte_level)
    if not alike:
        raise TokenizerError(
            "tokenizer.json cuts text into words in a way that no GGUF file can name",
            hint="another rule would give wrong token ids; the folder itself can be run",
        )
    model = state.get("model")
    whole_words = isinstance(model, Mapping) and bool(model.get("ignore_merges", False))
    exact = [name for name in alike if byte_level[name].whole_words == whole_words]
    candidates = exact or alike
    return next((name for name in _PREFERRED if name in candidates), candidates[0])


def _same_ids(state: Mapping[str, object], candidates: Mapping[str, PreTokenizer]) -> list[str]:
    """Return the rules that cut otherwise, but where no token of the vocabulary reaches over the difference."""
    with LibraryErrors():
        backend = Tokenizer.from_str(json.dumps({**state, "post_processor": None}))
        probes = [*PROBES, *_sayings(backend)]
        wanted = [backend.encode(probe).ids for probe in probes]
        found = []
        for name, rules in candidates.items():
            spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([_sequence(rules), spelled])
            if all(backend.encode(probe).ids == ids for probe, ids in zip(probes, wanted, strict=True)):
                found.append(name)
    return found


def _sayings(backend: Tokenizer) -> list[str]:
    """Return texts made of the vocabulary's own tokens."""
    size = backend.get_vocab_size(with_added_tokens=False)
    spell = decoders.ByteLevel()
    some = range(0, size, -(-size // _NUM_SAID) or 1)
    texts = [spell.decode([token]) for i in some if (token := backend.id_to_token(i)) is not None]
    return ["".join(texts), " ".join(texts)]


def steps_of(part: object) -> list[Mapping[str, object]]:
    """Return a normalizer, pre-tokenizer, decoder or post-processor of the file, a sequence's steps one by one."""
    if not isinstance(part, Mapping):
        return []
    for key in ("normalizers", "pretokenizers", "decoders", "processors"):
        nested = part.get(key)
        if isinstance(nested, list):
            return [step for inner in nested for step in steps_of(inner)]
    return [part]


def _check_normalizer(normalizer: object) -> None:
    for step in steps_of(normalizer):
        if step.get("type") not in _HARMLESS:
            raise TokenizerError(
                f"tokenizer.json changes text by '{step.get('type')}' before it is cut, which GGUF cannot say",
                hint="the folder itself can be run",
            )


def _splitter(state: Mapping[str, object]) -> pre_tokenizers.PreTokenizer:
    """Build the file's own pre-tokenizer, without its vocabulary."""
    part = state.get("pre_tokenizer")
    if any(step.get("type") == "ByteLevel" and step.get("add_prefix_space") for step in steps_of(part)):
        raise TokenizerError(
            "tokenizer.json puts a space before every text, which GGUF cannot say of byte-level vocabularies",
            hint="the folder itself can be run",
        )
    absent = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    model = {"type": "BPE", "vocab": {}, "merges": []}
    bare = {"version": "1.0", **absent, "added_tokens": [], "pre_tokenizer": part, "model": model}
    splitter: pre_tokenizers.PreTokenizer | None = Tokenizer.from_str(json.dumps(bare)).pre_tokenizer
    if splitter is None:
        raise TokenizerError(
            "tokenizer.json does not cut text into words", hint="the folder itself can be run"
        )
    return splitter


def _sequence(rules: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated") for regex in rules.regexes]
    )


def _cuts(splitter: pre_tokenizers.PreTokenizer) -> tuple[tuple[int, ...], ...]:
    """Return where each probe is cut."""
    return tuple(_ends(splitter.pre_tokenize_str(probe)) for probe in PROBES)


def _ends(pieces: Iterable[tuple[str, tuple[int, int]]]) -> tuple[int, ...]:
    return tuple(end for _, (_, end) in pieces)
