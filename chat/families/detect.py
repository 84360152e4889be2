"""Which family a model speaks, judged by what its template holds and which tokens its vocabulary has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .deepseek import DEEPSEEK
from .family import Family
from .gemma import GEMMA
from .llama3 import LLAMA3
from .mistral import MISTRAL
from .plain import PLAIN
from .qwen3 import QWEN3
from .switch import Switch

# The order matters: a distilled model carries its teacher's template in its own vocabulary.
FAMILIES = (DEEPSEEK, QWEN3, LLAMA3, GEMMA, MISTRAL)

# Where models think, most particular first.
THOUGHT_TAGS = (
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<think>", "</think>"),
)
_BY_ARCHITECTURE = {"gemma": GEMMA, "gemma2": GEMMA, "gemma3": GEMMA, "mistral": MISTRAL, "mixtral": MISTRAL}


def detect(
    template_source: str | None,
    token_id: Callable[[str], int | None],
    architecture: str,
    switch: Switch | None = None,
) -> Family:
    """Return the family of a model, with its thought tags if it has any and its template's switch.

    token_id: the id of a text that is one entry of the vocabulary, else None.
    """
    source = template_source or ""
    family = next((one for one in FAMILIES if one.marker and one.marker in source), None)
    if family is None and template_source is None:
        family = next((one for one in FAMILIES if one.marker and token_id(one.marker) is not None), None)
        family = family or _BY_ARCHITECTURE.get(architecture)
    family = family or PLAIN
    tags = _thought_tags(source, token_id)
    if family.tool_open is None and "<tool_call>" in source:
        family = replace(family, tool_open=QWEN3.tool_open, tool_close=QWEN3.tool_close)
    if tags is None:
        return family
    return replace(
        family,
        # The plain family never thinks; a format that is only known by its tags is named after them.
        name="thinking" if family is PLAIN else family.name,
        open_tag=tags[0],
        close_tag=tags[1],
        switch=switch or Switch(),
    )


def _thought_tags(source: str, token_id: Callable[[str], int | None]) -> tuple[str, str] | None:
    for opening, closing in THOUGHT_TAGS:
        # A pattern in a template may join the tag with what follows it.
        if opening.strip() in source or closing in source:
            return opening, closing
    for opening, closing in THOUGHT_TAGS:
        if token_id(opening) is not None and token_id(closing) is not None:
            return opening, closing
    return None
