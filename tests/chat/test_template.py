"""Chat templates render as Hugging Face's library renders them, and fail with a line and a reason."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest
from mull.chat.message import Message, ToolCall
from mull.chat.template import Template
from mull.errors import TemplateError

HELLO = [Message("user", "hi")]
PLAIN = [Message("system", "Be brief."), Message("user", "What is <b>2 & 2</b>?")]
TURNS = [
    Message("user", "one"),
    Message("assistant", "two", thinking="a thought"),
    Message("user", "thrée"),
]
CALL = ToolCall("get_weather", {"city": "Zürich", "days": 2}, id="abcdefghi")
CALLED = [
    Message("user", "Is it warm?"),
    Message("assistant", tool_calls=(CALL,)),
    Message("tool", "22 °C", tool_name="get_weather", tool_call_id="abcdefghi"),
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a <city>",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "its name"}},
            "required": ["city"],
        },
    },
}
CONVERSATIONS = {"hello": (HELLO, ()), "plain": (PLAIN, ()), "turns": (TURNS, ()), "tools": (CALLED, (TOOL,))}

# Templates that do not render a plain conversation, and why.
FAILING = {"fireworks-ai-llama-3-firefunction-v2": "'functions' is undefined"}
# Conversations with tools that a template refuses, in Hugging Face's library as here.
FAILING_TOOLS = {
    "Kimi-K2-Instruct": "'append' of 'list' object is unsafe",
    "Kimi-K2-Thinking": "'append' of 'list' object is unsafe",
    "fireworks-ai-llama-3-firefunction-v2": "'functions' is undefined",
    "google-gemma-2-2b-it": "Conversation roles must alternate",
}
# Where Hugging Face's library fails and we do not, and why.
BEYOND = {
    "google-gemma-2-2b-it": {"plain"},  # no system role: it joins the user's text
    "meetkai-functionary-medium-v3.2": {"tools"},  # wants arguments as text
    "llama-cpp-deepseek-r1": {"tools"},  # writes a generator as JSON
    # want a list of tools even where there are none
    "CohereForAI-c4ai-command-r-plus-tool_use": {"hello", "plain", "turns"},
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": {"hello", "plain", "turns"},
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": {"hello", "plain", "turns"},
}


@pytest.fixture(scope="session")
def templates(shared_data) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted((shared_data / "templates").glob("*.jinja"))}


@pytest.fixture(scope="session")
def compiled(templates) -> dict[str, Template]:
    return {name: Template(source, bos="<s>", eos="</s>") for name, source in templates.items()}


def as_hugging_face(message: Message) -> dict[str, object]:
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.thinking is not None:
        turn["reasoning_content"] = message.thinking
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "id": c.id, "function": {"name": c.name, "arguments": dict(c.arguments)}}
            for c in message.tool_calls
        ]
    if message.tool_name is not None:
        turn |= {"name": message.tool_name, "tool_call_id": message.tool_call_id}
    return turn


def test_real_templates_render(compiled):
    failed, failed_tools = {}, {}
    for name, template in compiled.items():
        try:
            text = template.render(PLAIN)
            assert "Be brief." in text, f"{name} lost the system message"
            assert "<b>2 & 2</b>" in text, f"{name} changed the user's text"
        except TemplateError as error:
            failed[name] = error.message
        try:
            template.render(CALLED, [TOOL])
        except TemplateError as error:
            failed_tools[name] = error.message
    assert len(compiled) == 70
    assert set(failed) == set(FAILING)
    assert all(FAILING[name] in failed[name] for name in failed)
    assert set(failed_tools) == set(FAILING_TOOLS)
    assert all(FAILING_TOOLS[name] in failed_tools[name] for name in failed_tools)


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_real_templates_render_as_hugging_face_does(compiled, kind):
    library = pytest.importorskip("transformers.utils.chat_template_utils")
    messages, tools = CONVERSATIONS[kind]
    theirs_in = [as_hugging_face(message) for message in messages]
    compared, failed = 0, set()
    for name, template in compiled.items():
        for think, switch in (("auto", {}), ("on", template.switch.on), ("off", template.switch.off)):
            try:
                (theirs,), _ = library.render_jinja_template(
                    [theirs_in],
                    tools=list(tools) or None,
                    chat_template=template.source,
                    add_generation_prompt=True,
                    bos_token="<s>",
                    eos_token="</s>",
                    **switch,
                )
            except Exception:
                failed.add(name)
                continue
            assert template.render(messages, tools, think) == theirs, f"{name}, think {think}"
            compared += 1
    expected = set(FAILING_TOOLS if kind == "tools" else FAILING)
    assert failed == expected | {name for name, kinds in BEYOND.items() if kind in kinds}
    assert compared == 3 * (len(compiled) - len(failed))


def test_a_tokenizer_with_this_template_agrees(templates):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    source = templates["Qwen-Qwen3-0.6B"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"x": 0}, unk_token="x")), chat_template=source
    )
    messages = [as_hugging_face(message) for message in TURNS]
    for think, enabled in (("on", True), ("off", False)):
        theirs = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=enabled
        )
        ours = Template(source).render(TURNS, think=think)
        assert ours == theirs
        assert ours.endswith("<think>\n\n</think>\n\n") == (think == "off")


def test_the_markers_of_a_vocabulary_are_variables():
    template = Template("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", bos="<s>", eos="</s>")
    assert template.render(HELLO) == "<s>hi</s>"


def test_blocks_are_trimmed_as_templates_expect():
    template = Template(
        "{% for m in messages %}\n    {% if true %}\n{{ m.content }}!\n    {% endif %}\n{% endfor %}"
    )
    assert template.render(HELLO) == "hi!\n"


def test_extensions():
    source = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ {'a': '<é>', 'b': [1]}|tojson }}{% endgeneration %}"
        "{{ [1]|tojson(indent=2) }}{{ strftime_now('%Y')|length }}{% endfor %}"
    )
    assert Template(source).render(TURNS) == '{"a": "<é>", "b": [1]}[\n  1\n]4'


def test_no_generation_prompt():
    template = Template("{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}")
    assert template.render(HELLO) == "hi>"
    assert template.render(HELLO, add_generation_prompt=False) == "hi"


def test_extra_variables_win():
    template = Template("{{ enable_thinking }}{{ effort }}")
    assert template.render(HELLO, think="on") == "True"
    assert template.render(HELLO, think="on", extra={"enable_thinking": "x", "effort": 1}) == "x1"


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("a\n{% if %}", 2, "Expected an expression"),
        ("a\n\n{% for x in messages %}", 3, "Unexpected end of template"),
        ("{{ 1 }}\n{{ x|nothing }}", 2, "No filter named 'nothing'"),
    ],
)
def test_a_template_that_does_not_compile(source, line, reason):
    with pytest.raises(TemplateError) as caught:
        Template(source, path_name="model.gguf")
    assert caught.value.message.startswith(f"model.gguf, line {line}: ")
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("\n{{ raise_exception('Only user, please: 100 %') }}", "Only user, please: 100 %"),
        ("\n{{ messages[0].nothing.at_all }}", "'dict object' has no attribute 'nothing'"),
        ("\n{{ 1 / 0 }}", "division by zero"),
        ("\n{{ messages + 'x' }}", 'can only concatenate list (not "str") to list'),
        ("\n{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "it nests too deeply"),
    ],
)
def test_a_template_that_fails(source, reason):
    with pytest.raises(TemplateError) as caught:
        Template(source).render(HELLO)
    assert caught.value.message == f"chat template, line 2: {reason}"


def test_a_template_too_long_is_refused():
    with pytest.raises(TemplateError, match="too many for a template"):
        Template("x" * 1_000_001)


def test_a_refused_system_message_joins_the_first_user_message(templates):
    text = Template(templates["google-gemma-2-2b-it"], bos="<bos>").render(PLAIN)
    assert text == (
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is <b>2 & 2</b>?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_dropped_system_message_joins_the_first_user_message():
    source = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}"
    assert Template(source).render(PLAIN) == "[Be brief.\n\nWhat is <b>2 & 2</b>?]"
    assert Template(source).render([Message("system", "Alone.")]) == "[Alone.]"
    assert Template(source).render([Message("system", ""), *HELLO]) == "[hi]"


def test_a_failure_that_is_not_the_system_message_shows():
    with pytest.raises(TemplateError, match="never"):
        Template("{{ raise_exception('never') }}").render(PLAIN)


def test_arguments_are_an_object_or_text_as_the_template_wants():
    loop = "{% for m in messages %}{% for c in m.tool_calls or [] %}%s{% endfor %}{% endfor %}"
    arguments = "c.function.arguments"
    for want in ("{{ %s|tojson }}", "{{ 'x' + %s }}", "{{ %s }}"):
        text = Template(loop.replace("%s", want.replace("%s", arguments))).render(CALLED)
        assert text.removeprefix("x") == '{"city": "Zürich", "days": 2}'


def test_a_template_says_whether_it_takes_tools():
    assert Template("{{ tools }}").takes_tools
    assert not Template("{{ messages }} tools").takes_tools


def test_what_templates_see_is_plain():
    class Odd(dict[str, object]):
        secret = "shown"

    template = Template("{{ tools[0].secret }}{{ tools[0].a }}{{ tools[0].b }}")
    assert template.render(HELLO, [Odd(a=(1, 2), b=Path("x"))]) == "[1, 2]x"


def test_threads_share_a_template():
    template = Template("{% for i in range(300) %}{{ messages[0].content }}{% endfor %}")
    texts: dict[str, str] = {}
    threads = [
        Thread(target=lambda c=c: texts.update({c: template.render([Message("user", c)])})) for c in "abcdef"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {c: c * 300 for c in "abcdef"}
