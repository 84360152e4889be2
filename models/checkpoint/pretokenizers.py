"""How each `tokenizer.ggml.pre` name cuts text into words before merging: regular expressions as data."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import TokenizerError


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One rule set: each regex cuts the pieces that the one before it left; what none takes stays whole.

    whole_words: a word that is a token is that token, whatever the merges say.
    add_bos: the default where the file is silent; raw: tokens are plain text, with ▁ for a space.
    """

    regexes: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False
    raw: bool = False
    whole_newlines: bool = False


# letters that have a case, as ranges of code points
_CASED_LETTERS = (
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A "
    "38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF "
    "1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D "
    "1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F "
    "2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F "
    "A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
)


def _ranges(text: str) -> str:
    """Return a character class; escapes, since editors normalise some of these characters to others."""
    return "[" + "".join("-".join(rf"\x{{{end}}}" for end in part.split("-")) for part in text.split()) + "]"


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_ASCII_PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
_CJK = _ranges("4E00-9FA5 3040-309F 30A0-30FF") + "+"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + _WORD + r"|\p{N}{1,3}" + _SYMBOLS + _TAIL
_QWEN2 = _CONTRACTIONS + _WORD + r"|\p{N}" + _SYMBOLS + _TAIL
_QWEN35 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _TAIL
_CASED = _LEAD + _UPPER + "*" + _LOWER + "+{0}|" + _LEAD + _UPPER + "+" + _LOWER + "*{0}"
_AFTER_CASED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _TAIL
_TEKKEN = _CASED.replace("{0}", "") + r"|\p{N}" + _AFTER_CASED
_GPT4O = _CASED.replace("{0}", _CONTRACTIONS + "?") + r"|\p{N}{1,3}" + _AFTER_CASED
_DEEPSEEK3 = (
    _ASCII_PUNCTUATION + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + _TAIL
)
_SPARK = (
    _ASCII_PUNCTUATION
    + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
)
_NOT_HAN = r"&&[^\p{Han}]]"
_KIMI = r"\p{Han}+|" + (
    _CASED.replace(r"\p{M}]", r"\p{M}" + _NOT_HAN).replace("{0}", _CONTRACTIONS + "?")
    + r"|\p{N}{1,3}"
    + _SYMBOLS
    + _TAIL
)
_JAIS2 = (
    _CONTRACTIONS
    + _WORD
    + r"|\p{N}{1,3}"
    + _SYMBOLS
    + r"|\s*[\r\n]+"
    + "".join(rf"|\s{{{n}}}(?!\S)" for n in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
    + r"|\s"
)
_EXAONE_MOE = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]"
    + r"|\s+(?!\S)|\s+"
)
_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
    + r"|\s+(?!\S)|\s+"
)
_SEED_CODER = _CONTRACTIONS + _WORD + r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+" + _TAIL
_BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
_FULL_PUNCTUATION = _ranges("21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3000-3002")
_CJK_WIDE = _ranges("800-9FA5 AC00-D7FF") + "+"
_DIGIT_GROUPS = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
_ASIAN = (
    _ranges(
        "4E00-9FFF 3400-4DBF F900-FAFF 3040-309F 30A0-30FF FF65-FF9F 2F00-2FDF E40-E7F E80-EFF 1780-17FF"
        " 1000-109F AA60-AA7F A9E0-A9FF AC00-D7AF 1100-11FF"
    )
    + "+"
)
_YOUTU_SCRIPTS = "|".join(
    _ranges(points) + "+"
    for points in (
        "AC00-D7A3 3131-318E",
        "FF01 2026 201C 201D 2018 2019 2014 FF1A FF1B FF0C 3001-303F FE30-FE4F",
        "3105-312F",
        "4E00-9FA5 3040-309F 30A0-30FF",
    )
)
_YOUTU = _CASED.replace("{0}", _CONTRACTIONS + "?") + r"|\p{N}" + _AFTER_CASED
_CHAMELEON = (
    "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]", _GPT2,
)  # fmt: skip
_LINES = (r"[^\n]+|[\n]+",)
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")

# names that share one rule set
_RULES: tuple[tuple[str, PreTokenizer], ...] = (
    ("default", PreTokenizer(_DEFAULT)),
    (
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        PreTokenizer((_LLAMA3,), whole_words=True, add_bos=True),
    ),
    ("dbrx smaug-bpe", PreTokenizer((_LLAMA3,))),
    ("chatglm-bpe", PreTokenizer((_LLAMA3,))),
    ("glm4 glm5", PreTokenizer((_LLAMA3,), whole_words=True)),
    (
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en"
        " jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4",
        PreTokenizer((_GPT2,)),
    ),
    (
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
        PreTokenizer((r"\p{N}", _GPT2)),
    ),
    (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open megrez grok-2",
        PreTokenizer((_QWEN2,)),
    ),
    ("qwen35", PreTokenizer((_QWEN35,))),
    ("tekken", PreTokenizer((_TEKKEN,), whole_words=True, add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", PreTokenizer((_GPT4O,))),
    ("granite-embed-multi-97m", PreTokenizer((_GPT4O,), whole_words=True)),
    ("tiny_aya cohere2moe", PreTokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O))),
    (
        "deepseek-llm",
        PreTokenizer(
            (
                "[\r\n]",
                r"\s?" + _ranges(_CASED_LETTERS) + "+",
                r"\s?" + _FULL_PUNCTUATION + "+",
                r"\s+$",
                _CJK_WIDE,
                r"\p{N}+",
            )
        ),
    ),
    ("deepseek-coder", PreTokenizer(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_WIDE, r"\p{N}"))),
    ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", PreTokenizer((r"\p{N}{1,3}", _CJK, _DEEPSEEK3))),
    ("spark2_5", PreTokenizer((r"\p{N}{1,3}", _CJK, _SPARK, r"\p{N}"))),
    ("falcon", PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"))),
    ("poro-chat bloom gpt3-finnish", PreTokenizer((_BLOOM,))),
    ("viking", PreTokenizer((_BLOOM, r"\p{N}"))),
    ("jais-2", PreTokenizer((_JAIS2,))),
    ("chameleon", PreTokenizer(_CHAMELEON, add_bos=True)),
    ("youtu", PreTokenizer((_YOUTU_SCRIPTS, _YOUTU), whole_words=True)),
    ("kimi-k2", PreTokenizer((_KIMI,))),
    ("superbpe", PreTokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))"))),
    ("bailingmoe bailingmoe2 llada-moe", PreTokenizer((_BAILING,))),
    ("seed-coder", PreTokenizer((_SEED_CODER,))),
    ("ufakzeka", PreTokenizer(((_WORD + r"|\p{N}" + _SYMBOLS + _TAIL).removeprefix("|"),))),
    ("afmoe", PreTokenizer((_DIGIT_GROUPS, _ASIAN, _DEEPSEEK3))),
    ("laguna", PreTokenizer((*_LINES, _QWEN2))),
    ("exaone-moe", PreTokenizer((_EXAONE_MOE,))),
    ("minicpm5", PreTokenizer((r"\p{N}{1,3}", _LLAMA3.replace("{1,3}", "+")), whole_words=True)),
    (
        "gemma4 granite-embed-multi-311m",
        PreTokenizer(_LINES, add_bos=True, raw=True, whole_newlines=True),
    ),
    ("sarvam-moe", PreTokenizer(_LINES, raw=True)),
)

PRE_TOKENIZERS = {name: rules for names, rules in _RULES for name in names.split()}


def pre_tokenizer(name: str) -> PreTokenizer:
    """Return the rules of this `tokenizer.ggml.pre` name; raise TokenizerError for an unknown one."""
    try:
        return PRE_TOKENIZERS[name or "default"]
    except KeyError:
        hint = "other rules would give wrong token ids, so mull refuses to guess; known: " + ", ".join(
            sorted(PRE_TOKENIZERS)
        )
        raise TokenizerError(f"unknown pre-tokenizer '{name}'", hint=hint) from None
