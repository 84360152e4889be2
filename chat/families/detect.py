"""Which family a model speaks, judged by what its template holds and which tokens its vocabulary has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..tool_calls.detect import find_syntax
from .apriel import APRIEL
from .cohere import COMMAND_A, COMMAND_MOE
from .deepseek import DEEPSEEK, DEEPSEEK_HYBRID
from .family import Family
from .gemma import GEMMA
from .gemma4 import GEMMA4
from .harmony import HARMONY
from .kimi import KIMI, KIMI_TRIANGLE
from .ling3 import LING3
from .llama3 import LLAMA3
from .minimax import MINIMAX, MINIMAX_M3
from .mistral import MAGISTRAL, MISTRAL
from .plain import PLAIN
from .qwen3 import QWEN3, QWEN3_CODER
from .seed import SEED
from .solar import SOLAR
from .switch import Switch

# The order matters: a distilled model carries its teacher's template in its own vocabulary, and of two with the same
# marker the more particular comes first.
FAMILIES = (
    HARMONY, SOLAR, DEEPSEEK_HYBRID, DEEPSEEK, MINIMAX_M3, MINIMAX, SEED, COMMAND_A, COMMAND_MOE, GEMMA4,
    KIMI_TRIANGLE, KIMI, LING3, APRIEL, QWEN3_CODER, QWEN3, LLAMA3, GEMMA, MAGISTRAL, MISTRAL,
)  # fmt: skip

# Where models of all other families think, most particular first.
THOUGHT_TAGS = (
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<think:opensource>", "</think:opensource>"),
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
    family = next((one for one in FAMILIES if one.speaks(source)), None)
    if family is None and template_source is None:
        family = next((one for one in FAMILIES if _is_spoken(one, token_id)), None)
        family = family or _BY_ARCHITECTURE.get(architecture)
    family = family or PLAIN
    tags = (family.open_tag, family.close_tag) if family.can_think else _thought_tags(source, token_id)
    if family.tool_open is None and "<tool_call>" in source:
        family = replace(family, tool_open=QWEN3.tool_open, tool_close=QWEN3.tool_close)
    family = _with_tools(family, source)
    if tags is None:
        return family
    return replace(
        family,
        # The plain family never thinks; a format that is only known by its tags is named after them.
        name="thinking" if family.name == PLAIN.name else family.name,
        open_tag=tags[0],
        close_tag=tags[1],
        switch=replace(switch or Switch(), step=family.budget_step),
    )


def reasons(
    family: Family, template_source: str | None, token_id: Callable[[str], int | None], architecture: str
) -> list[str]:
    """Return why `detect` chose a family for these, in words."""
    source = template_source or ""
    spoken = next((one for one in FAMILIES if one.speaks(source)), None)
    found = []
    if spoken is not None:
        found.append(f"the template holds {_named(spoken)}")
    elif template_source is None:
        spoken = next((one for one in FAMILIES if _is_spoken(one, token_id)), None)
        if spoken is not None:
            found.append(f"there is no template, and the vocabulary has {_named(spoken)}")
        elif architecture in _BY_ARCHITECTURE:
            spoken = _BY_ARCHITECTURE[architecture]
            found.append(f"there is no template, and the architecture is {architecture}")
    if family.can_think and (spoken is None or not spoken.can_think):
        where = "template" if family.close_tag is not None and family.close_tag in source else "vocabulary"
        found.append(f"the {where} has {str(family.open_tag).strip()}")
    return found or ["neither the template nor the vocabulary has marks of another"]


def _named(family: Family) -> str:
    return " and ".join(filter(None, (family.marker, *family.more_markers)))


def _with_tools(family: Family, source: str) -> Family:
    """Return a family with the syntax of tool calls that a template writes."""
    syntax = find_syntax(source)
    if syntax is None:
        return family
    opening = syntax.opens[0]
    if opening in family.calls or syntax.in_prompt or family.header_begins:
        return replace(family, tools=syntax)
    return replace(family, tools=syntax, tool_marks=(*family.tool_marks, opening))


def _is_spoken(family: Family, token_id: Callable[[str], int | None]) -> bool:
    """Tell whether a vocabulary has all of a family's markers."""
    markers = () if family.marker is None else (family.marker, *family.more_markers)
    return bool(markers) and all(token_id(marker) is not None for marker in markers)


def _thought_tags(source: str, token_id: Callable[[str], int | None]) -> tuple[str, str] | None:
    for opening, closing in THOUGHT_TAGS:
        # A pattern in a template may join the tag with what follows it.
        if opening.strip() in source or closing in source:
            return opening, closing
    for opening, closing in THOUGHT_TAGS:
        if token_id(opening) is not None and token_id(closing) is not None:
            return opening, closing
    return None
