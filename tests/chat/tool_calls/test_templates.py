"""What real chat templates write of calls is read back; what a template cannot say of tools reaches it as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
from mull.chat.families.family import Family
from mull.chat.message import Message, ToolCall
from mull.chat.template import Template
from mull.chat.tools import fitted
from mull.errors import TemplateError

from .rendered import CALLS, TOOLS, calls_of, load, parse, parser, reply_of

# template: how many calls of one message it writes; all others write any number.
_FEW = {
    "GigaChat3-10B-A1.8B": 1,
    "GigaChat3.1-10B-A1.8B": 1,
    "HuggingFaceTB-SmolLM3-3B": 0,
    "Kimi-K2-Instruct": 0,  # appends to a list, which the sandbox does not allow
    "Kimi-K2-Thinking": 0,
    "LFM2-8B-A1B": 0,
    "LFM2.5-Instruct": 0,
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": 0,
    "fireworks-ai-llama-3-firefunction-v2": 0,
    "google-gemma-2-2b-it": 0,
    "ibm-granite-granite-3.3-2B-Instruct": 0,
    "llama-cpp-rwkv-world": 0,
    "meta-llama-Llama-3.1-8B-Instruct": 1,
    "meta-llama-Llama-3.2-3B-Instruct": 1,
    "meta-llama-Llama-3.3-70B-Instruct": 1,
    "microsoft-Phi-3.5-mini-instruct": 0,
    "openai-gpt-oss-120b": 1,
}
# Their own demands on tools are such that ours do not come through.
_PICKY = ("CohereForAI-c4ai-command-r-plus-tool_use",)


def _templates(shared_data) -> list[tuple[str, Template, Family]]:
    return [(path.stem, *load(path)) for path in sorted((shared_data / "templates").glob("*.jinja"))]


def _in_call(family: Family) -> str | None:
    return family.tools.opens[0] if family.tools is not None and family.tools.in_prompt else None


def test_what_templates_write_is_read_back_however_it_is_cut(shared_data):
    num_read = 0
    for name, template, family in _templates(shared_data):
        num = _FEW.get(name, 2)
        assert template.num_calls == num, name
        if num == 0 or name in _PICKY:
            continue
        make = partial(parser, family, in_call=_in_call(family))
        calls = CALLS[:num]
        reply = reply_of(template, calls)
        events = parse([reply], make)
        assert calls_of(events) == [(call.name, call.arguments) for call in calls], name
        assert parse(list(reply), make) == events, name
        for width in (2, 3, 7):
            assert parse([reply[i : i + width] for i in range(0, len(reply), width)], make) == events, name
        num_read += 1
    assert num_read > 50


def test_a_call_that_is_cut_off_comes_back_as_text(shared_data):
    for name, template, family in _templates(shared_data):
        if not template.num_calls or name in _PICKY:
            continue
        assert family.tools is not None
        make = partial(parser, family, in_call=_in_call(family))
        reply = reply_of(template, CALLS[:1])
        cut = reply[: reply.index("Paulo") + 2]
        events = parse([cut], make)
        assert parse(list(cut), make) == events, name
        assert not calls_of(events), name
        text = "".join(
            event.text for event in events if hasattr(event, "text") and not hasattr(event, "index")
        )
        assert text.strip().endswith(cut[-30:]), name
        made = make()
        for piece in cut:
            made.feed(piece)
        made.flush()
        assert made.tool_errors, name


def _turns(calls: Sequence[ToolCall]) -> list[Message]:
    return [
        Message("system", "SYSTEM"),
        Message("user", "QUESTION"),
        Message("assistant", tool_calls=tuple(calls)),
        *(Message("tool", f"RESULT{index}", tool_name=call.name) for index, call in enumerate(calls)),
    ]


def test_calls_and_results_come_through_every_template(shared_data):
    for name, template, family in _templates(shared_data):
        if name in (*_PICKY, "fireworks-ai-llama-3-firefunction-v2", "llama-cpp-rwkv-world"):
            continue
        messages, tools = fitted(_turns(CALLS), TOOLS, template, family.tools)
        text = template.render(messages, tools)
        for wanted in ("QUESTION", "get_weather", "Paulo", "a < b", "RESULT0", "RESULT1", "look-up"):
            assert wanted in text, (name, wanted)


def test_a_result_without_a_call_is_no_error(shared_data):
    for name, template, family in _templates(shared_data):
        lone = [Message("user", "QUESTION"), Message("tool", "RESULT", tool_name="f")]
        messages, tools = fitted(lone, (), template, family.tools)
        try:
            text = template.render(messages, tools)
        except TemplateError:  # it says so itself, and the user hears it
            continue
        assert "QUESTION" in text, name


@pytest.mark.parametrize("call_id", ["call_0123456789abcdef", "toolu_01", "x", None])
def test_ids_of_any_form_become_such_as_mistral_takes(shared_data, call_id):
    for name in ("mistralai-Mistral-Nemo-Instruct-2407", "Mistral-Small-3.2-24B-Instruct-2506"):
        template, family = load(shared_data / "templates" / f"{name}.jinja")
        turns = [
            Message("user", "hi"),
            Message("assistant", tool_calls=(ToolCall("f", {"a": 1}, call_id),)),
            Message("tool", "RESULT", tool_name=None if call_id else "f", tool_call_id=call_id),
        ]
        messages, tools = fitted(turns, (), template, family.tools)
        assert messages[1].tool_calls[0].id == messages[2].tool_call_id
        assert "RESULT" in template.render(messages, tools)
