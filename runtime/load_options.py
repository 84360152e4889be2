"""How a model is to be loaded, as its user says; of no weight itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import InvalidRequest

_MOST_GUESSES = 15


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model.

    num_ctx: context length (None: the model's own); threads: CPU threads (None: cores); cache_type_k, cache_type_v:
    what keys and values are stored in; cpu: the instruction set of native kernels (None: the best, "none": torch);
    quantize: the type that matrices get as they are loaded (quant/load_types.py);
    parallel: how many requests run at once; deterministic: each gets the bits that it would get alone, at some cost;
    speculate: how many tokens are guessed ahead: "auto" for as many as pay, "off", or a number; draft: the name of a
    smaller model that guesses (None: the one that a Modelfile names); prompt_cache: the most bytes that long prompts
    may take on disk, where they outlive the process (None: they do not).
    """

    dtype: str = "auto"
    device: str = "auto"
    num_ctx: int | None = None
    threads: int | None = None
    cache_type_k: str = "auto"
    cache_type_v: str = "auto"
    cpu: str | None = None
    quantize: str | None = None
    parallel: int = 8
    deterministic: bool = False
    speculate: str = "auto"
    draft: str | None = None
    prompt_cache: int | None = None


def with_parameters(options: LoadOptions, parameters: Mapping[str, object]) -> LoadOptions:
    """Fill in what a Modelfile says and the user did not."""

    def said(name: str) -> int | None:
        value = parameters.get(name)
        return value if isinstance(value, int) and value > 0 else None

    return replace(
        options,
        num_ctx=said("num_ctx") if options.num_ctx is None else options.num_ctx,
        threads=options.threads or said("num_thread"),
    )


def parse_speculate(text: str) -> int | None:
    """Return how many tokens to guess ahead, 0 for off and None for as many as pay; raises InvalidRequest."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if text.isascii() and text.isdigit() and int(text) <= _MOST_GUESSES:
        return int(text)
    raise InvalidRequest(
        f"'{text}' is no way to speculate", field="speculate", hint=f"auto, off, or 1 to {_MOST_GUESSES}"
    )
