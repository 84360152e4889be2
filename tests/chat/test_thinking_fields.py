"""Fields of other APIs on thinking: every alias, every conflict, every refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from mull.chat.thinking import LEVELS, THINK_OPTIONS, think_options
from mull.chat.thinking_fields import (
    Asked,
    from_anthropic,
    from_gemini,
    from_ollama,
    from_openai_chat,
    from_openai_responses,
)
from mull.errors import InvalidRequest

Read = Callable[[Mapping[str, object]], Asked]

ALIASES: list[tuple[Read, dict[str, object], dict[str, object]]] = [
    (from_ollama, {}, {}),
    (from_ollama, {"think": None, "model": "m", "options": {"top_k": 1}}, {}),
    (from_ollama, {"think": True}, {"think": True}),
    (from_ollama, {"think": False}, {"think": False}),
    (from_ollama, {"think": 512}, {"think": 512}),
    (from_ollama, {"think": "50%"}, {"think": "50%"}),
    *((from_ollama, {"think": level}, {"think": level}) for level in LEVELS),
    (from_ollama, {"options": {"think_min": "10%", "top_k": 1}}, {"think_min": "10%"}),
    (
        from_ollama,
        {"think": {"budget": 9, "min": 1, "rounds": 2, "soft": 0.5, "message": "so", "exit": "confidence"}},
        {
            "think_budget": 9, "think_min": 1, "think_rounds": 2, "think_soft": 0.5, "think_message": "so",
            "think_exit": "confidence",
        },
    ),
    (from_openai_chat, {"messages": [], "reasoning_content": "x"}, {}),
    *((from_openai_chat, {"reasoning_effort": level}, {"think": level}) for level in LEVELS),
    (from_openai_chat, {"reasoning_effort": "none"}, {"think": "off"}),
    (from_openai_chat, {"reasoning_effort": "xhigh"}, {"think": "max"}),
    (from_openai_chat, {"reasoning": {"effort": "low"}}, {"think": "low"}),
    (from_openai_chat, {"reasoning": {"max_tokens": 9}}, {"think_budget": 9}),
    (from_openai_chat, {"reasoning": {"enabled": False}}, {"think": False}),
    (from_openai_chat, {"thinking_budget": 9}, {"think_budget": 9}),
    (from_openai_chat, {"thinking_token_budget": 9}, {"think_budget": 9}),
    (from_openai_chat, {"thinking_budget_tokens": 9}, {"think_budget": 9}),
    (from_openai_chat, {"reasoning_budget_tokens": -1}, {"think_budget": -1}),
    (from_openai_chat, {"max_thinking_tokens": 0}, {"think_budget": 0}),
    (from_openai_chat, {"reasoning_budget_message": "so"}, {"think_message": "so"}),
    (from_openai_chat, {"chat_template_kwargs": {"enable_thinking": False}}, {"think": False}),
    (from_openai_chat, {"chat_template_kwargs": {"thinking": True, "x": 1}}, {"think": True}),
    (from_openai_chat, {"chat_template_kwargs": {"thinking_budget": 9}}, {"think_budget": 9}),
    (from_openai_chat, {"chat_template_kwargs": {"reasoning_effort": "low"}}, {"think": "low"}),
    (from_openai_chat, {"think": "high", "think_loop": "off"}, {"think": "high", "think_loop": "off"}),
    (from_openai_chat, {"think": {"budget": 9}}, {"think_budget": 9}),
    (from_openai_responses, {"reasoning": {"effort": "minimal", "summary": "auto"}}, {"think": "minimal"}),
    (from_openai_responses, {"reasoning": {"effort": "none"}}, {"think": "off"}),
    (from_anthropic, {"max_tokens": 9000}, {}),
    (
        from_anthropic,
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 4096},
        {"think_budget": 2048},
    ),
    (from_anthropic, {"thinking": {"type": "enabled"}}, {"think": True}),
    (from_anthropic, {"thinking": {"type": "adaptive"}}, {}),
    (from_anthropic, {"thinking": {"type": "disabled", "budget_tokens": 5}}, {"think": False}),
    (from_anthropic, {"output_config": {"effort": "max"}}, {"think": "max"}),
    (
        from_anthropic,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"think": "low"},
    ),
    (from_gemini, {}, {}),
    (from_gemini, {"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}, {"think": "auto"}),
    (from_gemini, {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, {"think_budget": 0}),
    (from_gemini, {"thinkingConfig": {"thinkingBudget": 9, "includeThoughts": True}}, {"think_budget": 9}),
    (from_gemini, {"thinkingConfig": {"thinkingLevel": "HIGH"}}, {"think": "high"}),
]  # fmt: skip


@pytest.mark.parametrize(("read", "body", "options"), ALIASES)
def test_every_alias(read: Read, body: dict[str, object], options: dict[str, object]) -> None:
    asked = read(body)
    assert (asked.options, asked.notes) == (options, [])
    assert set(asked.options) <= set(THINK_OPTIONS)
    think_options(asked.options)


CONFLICTS: list[tuple[Read, dict[str, object], dict[str, object], str]] = [
    (from_ollama, {"think": "high", "options": {"think_budget": 9}}, {"think_budget": 9}, "think high"),
    (from_ollama, {"think": False, "options": {"think_budget": 9}}, {"think_budget": 9}, "think false"),
    (from_ollama, {"think": {"min": 3}, "options": {"think_min": 2}}, {"think_min": 3}, "think_min 2"),
    (from_ollama, {"think": 1, "options": {"think_budget": 9}}, {"think_budget": 9}, "not think 1"),
    (
        from_ollama,
        {"think": 20, "options": {"think_budget": -1}},
        {"think": "on", "think_budget": -1},
        "no limit is taken, not think 20",
    ),
    (
        from_openai_chat,
        {"think": {"budget": 3}, "think_budget": 7},
        {"think_budget": 7},
        "think_budget 7 is taken, not think_budget 3",
    ),
    (
        from_openai_chat,
        {"think": {"min": 3, "budget": 9}, "think_min": 7},
        {"think_min": 7, "think_budget": 9},
        "think_min 7 is taken, not think_min 3",
    ),
    (
        from_openai_chat,
        {"reasoning_effort": "low", "thinking_budget": -1},
        {"think": "on", "think_budget": -1},
        "no limit is taken, not think low",
    ),
    (
        from_openai_chat,
        {"think": 1, "chat_template_kwargs": {"enable_thinking": False}},
        {"think": False},
        "enable_thinking false is taken, not think 1",
    ),
    (
        from_gemini,
        {"thinkingConfig": {"thinkingLevel": "low", "thinkingBudget": -1}},
        {"think": "auto"},
        "thinkingBudget -1, which means auto is taken, not think low",
    ),
    (from_openai_chat, {"reasoning_effort": "low", "thinking_budget": 9}, {"think_budget": 9}, "think low"),
    (
        from_openai_chat,
        {"reasoning": {"effort": "low", "max_tokens": 9}},
        {"think_budget": 9},
        "the budget of 9 tokens is taken, not think low",
    ),
    (
        from_openai_chat,
        {"reasoning": {"effort": "low"}, "reasoning_effort": "high"},
        {"think": "high"},
        "reasoning_effort high is taken, not think low",
    ),
    (
        from_openai_chat,
        {"chat_template_kwargs": {"thinking_budget": 8}, "thinking_token_budget": 9},
        {"think_budget": 9},
        "thinking_token_budget 9 is taken, not think_budget 8",
    ),
    (
        from_openai_chat,
        {"chat_template_kwargs": {"enable_thinking": False}, "max_thinking_tokens": 9},
        {"think_budget": 9},
        "not think false",
    ),
    (
        from_openai_chat,
        {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high"},
        {"think": "high"},
        "not think false",
    ),
    (
        from_anthropic,
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {"effort": "low"}},
        {"think_budget": 2048},
        "not think low",
    ),
    (
        from_anthropic,
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
        {"think": False},
        "thinking.type false is taken, not think low",
    ),
    (
        from_anthropic,
        {"thinking": {"type": "enabled", "budget_tokens": 100}, "max_tokens": 101},
        {"think_budget": 100},
        "below Anthropic's least, 1024",
    ),
    (
        from_gemini,
        {"thinkingConfig": {"thinkingLevel": "low", "thinkingBudget": 9}},
        {"think_budget": 9},
        "not think low",
    ),
]


@pytest.mark.parametrize(("read", "body", "options", "said"), CONFLICTS)
def test_what_wins_and_says_so(
    read: Read, body: dict[str, object], options: dict[str, object], said: str
) -> None:
    asked = read(body)
    assert asked.options == options
    (note,) = asked.notes
    assert said in note


@pytest.mark.parametrize(
    "body",
    [
        {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "high"},
        {"reasoning": {"enabled": True}, "reasoning_effort": "high"},
        {"reasoning": {"effort": "high"}, "reasoning_effort": "high"},
        {"think": "high", "chat_template_kwargs": {"thinking": True}},
        {"think": "high", "reasoning_effort": "high"},
    ],
)
def test_what_agrees_is_no_conflict(body: dict[str, object]) -> None:
    assert from_openai_chat(body) == Asked({"think": "high"})


REFUSED: list[tuple[Read, dict[str, object], str]] = [
    (from_ollama, {"think": "much"}, "think"),
    (from_ollama, {"think": -3}, "think"),
    (from_ollama, {"think": {"budgets": 9}}, "think.budgets"),
    (from_ollama, {"thinking": True}, "thinking"),
    (from_ollama, {"options": {"thinking_budget": 9}}, "options.thinking_budget"),
    (from_ollama, {"options": 3}, "options"),
    (from_openai_chat, {"reasoning_effort": "much"}, "reasoning_effort"),
    (from_openai_chat, {"reasoning_efort": "high"}, "reasoning_efort"),
    (from_openai_chat, {"reasoning": "high"}, "reasoning"),
    (from_openai_chat, {"reasoning": {"budget": 9}}, "reasoning.budget"),
    (from_openai_chat, {"thinking_budget": "9 or so"}, "thinking_budget"),
    (from_openai_chat, {"thinking_budget": -2}, "thinking_budget"),
    (from_openai_chat, {"thinking_budget": True}, "thinking_budget"),
    (from_openai_chat, {"Thinking_Tokens": 9}, "Thinking_Tokens"),
    (from_openai_chat, {"max_reasoning_tokens": 9}, "max_reasoning_tokens"),
    (
        from_openai_chat,
        {"chat_template_kwargs": {"enable_thinkin": True}},
        "chat_template_kwargs.enable_thinkin",
    ),
    (
        from_openai_chat,
        {"chat_template_kwargs": {"enable_thinking": "yes"}},
        "chat_template_kwargs.enable_thinking",
    ),
    (from_openai_chat, {"reasoning_budget_message": 3}, "think_message"),
    (from_openai_responses, {"reasoning_effort": "low"}, "reasoning_effort"),
    (from_anthropic, {"thinking": {"type": "on"}}, "thinking.type"),
    (
        from_anthropic,
        {"thinking": {"type": "enabled", "budget_tokens": 4096}, "max_tokens": 4096},
        "thinking.budget_tokens",
    ),
    (from_anthropic, {"thinking": {"type": "enabled", "budget": 9}}, "thinking.budget"),
    (from_anthropic, {"output_config": {"effort": "much"}}, "output_config.effort"),
    (from_gemini, {"thinkingConfig": {"thinkingBudget": 1.5}}, "thinkingConfig.thinkingBudget"),
    (from_gemini, {"thinkingConfig": {"budget": 9}}, "thinkingConfig.budget"),
]


@pytest.mark.parametrize(("read", "body", "field"), REFUSED)
def test_what_is_refused_names_its_field(read: Read, body: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.field == field


def test_an_unknown_field_lists_those_that_are_known() -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_openai_chat({"thinking_budgets": 9})
    assert "reasoning_effort" in caught.value.message
    assert caught.value.hint == "did you mean thinking_budget?"


@pytest.mark.parametrize("think", [True, False])
def test_no_limit_takes_nothing_from_a_switch(think: bool) -> None:
    asked = from_openai_chat({"think": think, "think_budget": -1})
    assert asked == Asked({"think": think, "think_budget": -1})
