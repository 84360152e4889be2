"""Tools on their way to a template: calls and results find each other, and what a template cannot say becomes text."""

from __future__ import annotations

import pytest
from mull.chat.families.harmony import HARMONY
from mull.chat.families.qwen3 import QWEN3
from mull.chat.message import Message, ToolCall
from mull.chat.request import ChatRequest
from mull.chat.template import Template
from mull.chat.tool_calls.json_calls import HERMES
from mull.chat.tools import checked, fitted, is_forced, linked
from mull.errors import InvalidRequest

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BARE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
# One that insists that user and assistant take turns.
TURNS = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)


def calls(*names: str, ids: bool = False) -> Message:
    made = (ToolCall(name, {"n": i}, f"own{i}" if ids else None) for i, name in enumerate(names))
    return Message("assistant", tool_calls=tuple(made))


def result(text: str, name: str | None = None, call_id: str | None = None) -> Message:
    return Message("tool", text, tool_name=name, tool_call_id=call_id)


def answered(*messages: Message) -> list[tuple[str | None, str | None]]:
    made = linked([Message("user", "hi"), *messages])
    return [(one.tool_name, one.tool_call_id) for one in made if one.role == "tool"]


def test_results_find_their_calls():
    assert answered(calls("f", "g"), result("a"), result("b")) == [("f", "call00000"), ("g", "call00001")]
    assert answered(calls("f", "g"), result("b", "g"), result("a", "f")) == [
        ("g", "call00001"),
        ("f", "call00000"),
    ]
    assert answered(calls("f", "f"), result("a", "f"), result("b", "f")) == [
        ("f", "call00000"),
        ("f", "call00001"),
    ]
    own = calls("f", "g", ids=True)
    assert answered(own, result("b", call_id="own1"), result("a", call_id="own0")) == [
        ("g", "own1"),
        ("f", "own0"),
    ]
    assert answered(own, result("a", "other", "own0")) == [("other", "own0")]


def test_a_result_without_a_call_stays_as_it_is():
    assert answered(result("a", "f", "x"), result("b")) == [("f", "x"), (None, None)]
    assert answered(calls("f"), result("a"), result("b"), result("c", "h")) == [
        ("f", "call00000"),
        (None, None),
        ("h", None),
    ]


def test_ids_are_never_given_twice():
    made = linked([Message("user", "hi"), calls("f"), result("a"), calls("f", "g"), result("b"), result("c")])
    ids = [call.id for message in made for call in message.tool_calls]
    assert len(set(ids)) == 3


def rendered(source: str, *messages: Message, tools: tuple[dict[str, object], ...] = ()) -> str:
    template = Template(source)
    made, described = fitted([Message("user", "hi"), *messages], tools, template, HERMES)
    return template.render(made, described)


@pytest.mark.parametrize("source", [BARE, TURNS])
def test_what_a_template_does_not_write_is_text(source):
    turns = (calls("f", "g"), result("A"), result("B"))
    text = rendered(source, *turns, Message("assistant", "So."), Message("user", "Yes?"))
    assert text.count("<tool_call>") == 2
    assert '{"name": "f", "arguments": {"n": 0}}' in text
    assert text.index("A") < text.index("B") < text.index("So.")
    if source == TURNS:
        assert '<tool_response>\n{"name": "g", "content": "B"}\n</tool_response>' in text
        assert "[assistant]So.[user]Yes?" in rendered(
            source, *turns, Message("assistant", "So."), Message("user", "Yes?")
        )
        # A user who speaks right after a result
        assert rendered(source, calls("f"), result("A"), Message("user", "Yes?")).endswith(
            "</tool_response>\nYes?"
        )


def test_tools_join_the_system_message():
    text = rendered(BARE, tools=(TOOL,))
    assert text.startswith("[system]")
    assert '{"type": "function"' in text
    template = Template(BARE)
    made, _ = fitted([Message("system", "Be brief."), Message("user", "hi")], (TOOL,), template, None)
    assert made[0].content.startswith("Be brief.\n\n")
    assert len(made) == 2


def test_a_template_of_one_call_at_a_time_gets_them_in_turn():
    source = (
        "{% for m in messages %}[{{ m.role }}]{% if m.tool_calls %}{% if m.tool_calls|length > 1 %}"
        "{{ raise_exception('one') }}{% endif %}{{ m.tool_calls[0].function.arguments.values()|first }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    text = rendered(source, calls("f", "g"), result("B", "g"), result("A", "f"), result("C"))
    assert text == "[user]hi[assistant]0[tool]A[assistant]1[tool]B[tool]C"


def ask(**fields: object) -> ChatRequest:
    return ChatRequest((Message("user", "hi"),), **fields)  # type: ignore[arg-type]


def test_choices():
    assert checked(ask(tools=(TOOL,), tool_choice="none")).tools == ()
    assert is_forced(ask(tools=(TOOL,), tool_choice="required"))
    assert is_forced(ask(tools=(TOOL,), forced_tool="f"))
    assert not is_forced(ask(tools=(TOOL,)))
    for wrong in (
        {"tools": (TOOL,), "forced_tool": "g"},
        {"tool_choice": "required"},
        {"tools": ({"type": "function"},)},
        {"forced_tool": "f"},
    ):
        with pytest.raises(InvalidRequest):
            checked(ask(**wrong))


def test_families_know_what_ends_a_thought_before_a_call():
    assert HARMONY.call_close == "<|end|><|start|>assistant"
    assert QWEN3.call_close is None
