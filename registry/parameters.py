"""The names that PARAMETER accepts and the kind of value that each takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..errors import InvalidRequest

ParameterValue = int | float | bool | str | list[str]

_INT = [
    "num_keep", "num_ctx", "seed", "num_batch", "num_predict", "num_gpu", "top_k", "main_gpu", "num_thread",
    "repeat_last_n", "min_keep", "dry_allowed_length", "dry_penalty_last_n", "mirostat", "draft_num_predict",
    "think_rounds", "repeat_stop",
]  # fmt: skip
_FLOAT = [
    "temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty",
    "top_n_sigma", "xtc_probability", "xtc_threshold", "dry_multiplier", "dry_base", "dynatemp_range",
    "dynatemp_exponent", "mirostat_tau", "mirostat_eta", "adaptive_target", "adaptive_decay", "think_soft",
]  # fmt: skip
_BOOL = ["use_mmap"]
_TEXT = ["samplers", "think_wait", "think_message"]
_LIST = ["stop", "dry_sequence_breakers"]

# Name -> the values' shape, and that shape in words.
_SHAPED: Mapping[str, tuple[str, str]] = {
    "think": (
        r"auto|on|off|minimal|low|medium|high|max|-1|\d+|\d+(\.\d+)?%",
        "auto, on, off, minimal, low, medium, high, max, a number of tokens or a share such as 50%",
    ),
    "think_budget": (r"-1|\d+|\d+(\.\d+)?%", "a number of tokens, a share such as 50%, or -1 for none"),
    "think_min": (r"\d+|\d+(\.\d+)?%", "a number of tokens or a share such as 10%"),
    "think_reserve": (r"\d+|\d+(\.\d+)?%", "a number of tokens or a share such as 25%"),
    "think_loop": (r"on|off|nudge|\d+", "on, off, nudge or a number"),
    "think_exit": (r"off|confidence(:(0?\.\d+|1(\.0*)?))?", "off, confidence or confidence:0.95"),
    "think_history": (r"auto|strip|last|keep", "auto, strip, last or keep"),
}
# Ollama still takes these and does nothing with them.
DEPRECATED = frozenset((
    "penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock",
))  # fmt: skip
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LARGEST = 3.4028235677973366e38  # what rounds to the largest number of 32 bits
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def parse_parameter(name: str, text: str) -> ParameterValue:
    """Return the value that `text` means for the parameter `name`; raise InvalidRequest."""
    reader = _READERS.get(name)
    if reader is None:
        raise InvalidRequest(f"unknown parameter '{name}'", field=name, hint=_nearest(name))
    try:
        return reader(text)
    except ValueError as error:
        shape = _SHAPED.get(name)
        raise InvalidRequest(
            f"invalid {error} value [{text}]", field=name, hint=f"{name} takes {shape[1]}" if shape else None
        ) from None


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name.lower(), _READERS, n=1)
    return f"did you mean {near[0]}?" if near else "known parameters: " + ", ".join(sorted(_READERS))


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError("int")
    return int(text)


def _float(text: str) -> float:
    if not _NUMBER.fullmatch(text) or abs(float(text)) > _LARGEST:
        raise ValueError("float")
    return float(text)


def _bool(text: str) -> bool:
    if text not in _TRUE + _FALSE:
        raise ValueError("bool")
    return text in _TRUE


def _text(text: str) -> str:
    return text


def _list(text: str) -> list[str]:
    return [text]


def _shaped(name: str) -> Callable[[str], str]:
    pattern = re.compile(_SHAPED[name][0], re.ASCII)

    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(name)
        return text

    return read


_READERS: Mapping[str, Callable[[str], ParameterValue]] = {
    **dict.fromkeys(_INT, _int),
    **dict.fromkeys(_FLOAT, _float),
    **dict.fromkeys(_BOOL, _bool),
    **dict.fromkeys(_TEXT, _text),
    **dict.fromkeys(_LIST, _list),
    **{name: _shaped(name) for name in _SHAPED},
}
