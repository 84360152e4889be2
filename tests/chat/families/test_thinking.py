"""Every family's thoughts, as its real templates and its own tags have them: budget, end, answer, and switch."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from mull.chat.families.apriel import APRIEL
from mull.chat.families.cohere import COMMAND_A
from mull.chat.families.detect import detect
from mull.chat.families.family import Family
from mull.chat.families.gemma4 import GEMMA4
from mull.chat.families.harmony import HARMONY
from mull.chat.families.kimi import KIMI_TRIANGLE
from mull.chat.families.ling3 import LING3
from mull.chat.families.mistral import MAGISTRAL
from mull.chat.families.plain import PLAIN
from mull.chat.families.seed import SEED
from mull.chat.families.solar import SOLAR
from mull.chat.message import Message
from mull.chat.planner import Planner
from mull.chat.request import ChatRequest
from mull.chat.session import Prompt, Session
from mull.chat.template import Template
from mull.chat.thinking import think_options
from mull.errors import InvalidRequest
from mull.runtime.grammar.constraint import Constraint
from mull.runtime.thinking.automaton import Automaton
from mull.runtime.thinking.plan import ThinkingPlan

from .replies import EOS, Bytes, Reply, endless, reply, scripted, tags_of

# template: what its prompts end with if it is told to think, and if it is told not to
PROMPTS = {
    "openai-gpt-oss-120b": (
        "<|start|>assistant",
        "<|start|>assistant<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "google-gemma-4-31B-it": ("<|turn>model\n", "<|channel>thought\n<channel|>"),
    "ByteDance-Seed-OSS": ("<seed:bos>assistant\n", "</seed:cot_budget_reflect>\n</seed:think>"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": (
        "<|CHATBOT_TOKEN|>",
        "<|START_THINKING|><|END_THINKING|>",
    ),
    "Cohere2MoE": ("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("[/INST]", "[/INST]"),
    "Kimi-K2-Thinking": ("<|im_middle|>", "<|im_middle|><think></think>"),
    "MiniMax-M2": ("<think>\n", "<think>\n\n</think>\n\n"),
    "MiniMax-M3": ("<mm:think>", "</mm:think>"),
    "Qwen-Qwen3-0.6B": ("assistant\n", "<think>\n\n</think>\n\n"),
    "Qwen3.5-4B": ("<think>\n", "<think>\n\n</think>\n\n"),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("<think>\n", "<think></think>"),
    "StepFun3.5-Flash": ("<think>\n", "<think>\n\n</think>\n\n"),
    "inclusionai-ling-3.0-flash": ("<think>", "<think></think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("<think>\n", "<think>\n\n</think>\n\n"),
    "deepseek-ai-DeepSeek-V3.1": ("<think>", "<think></think>"),
    "upstage-Solar-Open-100B": ("<|begin|>assistant", "<|think|><|end|><|begin|>assistant"),
    "Apriel-1.6-15b-Thinker-fixed": (
        "Here are my reasoning steps:\n",
        "Here are my reasoning steps:[BEGIN FINAL RESPONSE]\n",
    ),
    "GLM-4.6": ("<|assistant|>", "<think></think>"),
    "HuggingFaceTB-SmolLM3-3B": ("assistant\n", "<think>\n\n</think>\n"),
}
FORCED = {
    "openai-gpt-oss-120b": "<|end|><|start|>assistant<|channel|>final<|message|>",
    "google-gemma-4-31B-it": "\n<channel|>",
    "ByteDance-Seed-OSS": "\n</seed:think>",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "<|END_THINKING|><|START_RESPONSE|>",
    "Cohere2MoE": "<|END_THINKING|><|START_TEXT|>",
    "mistralai-Ministral-3-14B-Reasoning-2512": "[/THINK]",
    "MiniMax-M3": "</mm:think>",
    "Qwen-Qwen3-0.6B": "\n</think>\n\n",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "\n</think>\n\n",
    "deepseek-ai-DeepSeek-V3.1": "\n</think>",
    "upstage-Solar-Open-100B": "<|end|><|begin|>assistant<|content|>",
}


class Model:
    """A template with its family and a vocabulary in which the family's tags are one token each, or letters."""

    def __init__(self, source: str | None, family: Family, *, spelled: bool = False) -> None:
        template = None if source is None else Template(source)
        self.family = family
        self.words = Bytes(*([] if spelled else tags_of(family)))
        self.session = Session(template, family, self.words)
        self.planner = Planner(family, self.words, {})

    def prompt(self, think: object) -> Prompt:
        request = ChatRequest((Message("user", "hi"),))
        return self.session.prompt(request, think_options({"think": think}))

    def plan(self, prompt: Prompt, **options: object) -> ThinkingPlan:
        options = {"think_soft": 0, "think_loop": "off", "think_message": "", **options}
        request = ChatRequest((Message("user", "hi"),), options=options)
        asked = self.planner.options(request)
        plan, _ = self.planner.plan(request, asked, 1000, opened=prompt.opened)
        assert plan is not None
        return plan

    def opening(self, prompt: Prompt) -> str:
        return "" if prompt.opened else str(self.family.open_tag)

    def run(self, text: str, prompt: Prompt, **options: object) -> Reply:
        return reply(self.plan(prompt, **options), self.family, self.words, scripted(self.words, text))

    def run_endless(self, prompt: Prompt, **options: object) -> Reply:
        draw = endless(self.words, self.opening(prompt), "Yes.")
        return reply(self.plan(prompt, **options), self.family, self.words, draw)

    def text(self, made: Reply) -> str:
        return self.words.decode(made.tokens)


@pytest.fixture(params=PROMPTS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a template."""
    return str(request.param)


@pytest.fixture
def source(shared_data: Path, name: str) -> str:
    """The text of that template."""
    return (shared_data / "templates" / f"{name}.jinja").read_text()


@pytest.fixture(params=["tags are tokens", "tags are spelled"])
def model(source: str, request: pytest.FixtureRequest) -> Model:
    """A model of that template."""
    spelled = request.param == "tags are spelled"
    template = Template(source)
    family = detect(source, lambda text: None, "llama", template.switch)
    if spelled and family.header_begins:
        pytest.skip("headers are made of control tokens")
    return Model(source, family, spelled=spelled)


def test_prompts_open_thoughts_and_close_them(model: Model, name: str) -> None:
    on, off = PROMPTS[name]
    thinking, silent = model.prompt("on"), model.prompt("off")
    assert thinking.text.endswith(on)
    assert silent.text.endswith(off)
    assert thinking.opened == on.rstrip().endswith(str(model.family.open_tag).rstrip())
    assert not silent.opened


def test_a_thought_that_ends_by_itself(model: Model) -> None:
    prompt, family = model.prompt("on"), model.family
    text = f"{model.opening(prompt)}so\n{family.close_tag}{family.answer_header}Yes."
    made = model.run(text, prompt, think=100)
    assert (made.thought.strip(), made.answer) == ("so", "Yes.")
    assert model.text(made) == f"{text}<eos>"
    assert made.automaton.report().reason == "natural"
    # The line break of an opening tag that the model writes itself is thought, too.
    assert made.automaton.num_thinking == 3 + model.opening(prompt).endswith("\n")


@pytest.mark.parametrize("budget", [2, 3, 5, 40])
def test_a_thought_that_never_ends(model: Model, name: str, budget: int) -> None:
    made = model.run_endless(model.prompt("on"), think=budget)
    assert made.automaton.report().reason == "hard"
    assert made.automaton.num_thinking == budget
    # A tag that is spelled is only known to be one when it is complete.
    assert made.answer == "Yes."
    assert "bee bee bee" in made.thought or budget < 40
    assert FORCED.get(name, model.family.forced_close) in model.text(made)


def test_an_end_of_text_within_a_thought(model: Model) -> None:
    prompt = model.prompt("on")
    thought = model.words.encode(f"{model.opening(prompt)}so", parse_special=True)
    script = iter([*thought, EOS, *b"Yes."])
    made = reply(model.plan(prompt, think=100), model.family, model.words, lambda _: next(script, EOS))
    assert (made.thought, made.answer) == ("so", "Yes.")
    assert made.automaton.report().reason == "eos"


def test_thinking_all_the_same_is_ended_at_once(model: Model) -> None:
    prompt = model.prompt("off")
    made = model.run_endless(prompt, think="off")
    assert (made.automaton.num_thinking, made.thought, made.answer) == (0, "", "Yes.")


def test_no_answer_is_empty(model: Model) -> None:
    prompt, family = model.prompt("on"), model.family
    surroundings = "".join(text for text in family.hidden[:1] if model.words.token_id(text) is not None)
    made = model.run(
        f"{model.opening(prompt)}so{family.close_tag}{family.answer_header}{surroundings}", prompt
    )
    assert made.answer.strip(" \n")


def test_a_tool_call_ends_a_thought_or_cannot_come_in_one(model: Model) -> None:
    prompt, family = model.prompt("on"), model.family
    if not family.calls:
        pytest.skip("how it calls tools is not known")
    made = model.run(f"{model.opening(prompt)}so{family.calls[0]}x", prompt, think=100)
    text = model.text(made)
    if family.tool_ends_thought:
        assert made.automaton.report().reason == "tool"
        assert text.endswith(f"so{family.close_lead}{family.forced_close}{family.calls[0]}x<eos>")
    elif model.words.token_id(family.calls[0]) is not None:
        assert family.calls[0] not in text.split(str(family.close_tag))[0]


def test_a_message_comes_before_the_end(model: Model) -> None:
    made = model.run_endless(model.prompt("on"), think=60, think_message=" OK.")
    assert f" OK.{model.family.close_lead}{model.family.forced_close}" in model.text(made)
    assert made.automaton.num_thinking == 60


def test_an_end_that_is_favoured_is_written_whole(model: Model) -> None:
    """In the soft zone the close wins at a paragraph's end, and the answer follows it."""
    words, prompt = model.words, model.prompt("on")
    opened = iter(words.encode(model.opening(prompt), parse_special=True))
    said = iter(b"Yes.")

    def draw(automaton: Automaton) -> int:
        if automaton.thinking:
            return ord("\n") if automaton.num_thinking >= 70 else ord("b")
        return next(opened, None) or next(said, EOS)

    made = reply(model.plan(prompt, think=100, think_soft=0.1), model.family, words, draw)
    assert made.automaton.report().reason in ("soft", "landing")
    assert made.answer == "Yes."


# What only some families have.


def harmony() -> Model:
    return Model(None, HARMONY)


def unopened(model: Model) -> Prompt:
    return Prompt((0,), "", opened=False)


def test_thoughts_that_come_in_several_messages_share_one_budget() -> None:
    model = harmony()
    once = "<|channel|>analysis<|message|>bee bee bee<|end|><|start|>assistant"
    made = model.run(once * 9 + "<|channel|>final<|message|>Yes.", unopened(model), think=30)
    assert made.automaton.num_thinking <= 30
    # After the forced end there is one answer, and nothing but it.
    text = model.text(made)
    last = text.rindex("<|channel|>final<|message|>")
    assert not {"<|start|>", "<|channel|>", "<|end|>"} & set(re.findall(r"<\|\w+\|>", text[last + 27 :]))
    assert made.thought.startswith("bee bee beebee")


def test_a_headed_answer_that_ends_before_it_begins_is_not_an_answer() -> None:
    model = harmony()
    made = model.run(f"<|channel|>analysis<|message|>so<|end|>{HARMONY.answer_header}", unopened(model))
    assert made.answer


def test_an_answer_in_a_format_follows_a_thought_at_once() -> None:
    model = harmony()
    request = ChatRequest((Message("user", "hi"),), format=Constraint("json", ""))
    plan, _ = model.planner.plan(request, model.planner.options(request), 1000, opened=False)
    assert plan is not None
    draw = scripted(model.words, "<|channel|>analysis<|message|>so<|end|>{}")
    made = reply(plan, HARMONY, model.words, draw)
    assert model.text(made).endswith(f"so<|end|>{HARMONY.answer_header}{{}}<eos>")
    assert (made.thought, made.answer, made.automaton.report().reason) == ("so", "{}", "natural")


def test_thoughts_of_earlier_turns_are_dropped(shared_data: Path) -> None:
    source = (shared_data / "templates" / "openai-gpt-oss-120b.jinja").read_text()
    model = Model(source, detect(source, lambda text: None, "gpt-oss", Template(source).switch))
    turns = (Message("user", "hi"), Message("assistant", "A", thinking="THOUGHT"), Message("user", "hi"))
    assert "THOUGHT" not in model.session.prompt(ChatRequest(turns)).text


@pytest.mark.parametrize(
    ("level", "words"), [("low", "low"), ("minimal", "low"), ("max", "high"), ("on", "medium")]
)
def test_effort_is_a_line_of_the_system_message(shared_data: Path, level: str, words: str) -> None:
    source = (shared_data / "templates" / "openai-gpt-oss-120b.jinja").read_text()
    model = Model(source, detect(source, lambda text: None, "gpt-oss", Template(source).switch))
    assert f"\nReasoning: {words}\n" in model.prompt(level).text


@pytest.mark.parametrize(("budget", "told"), [(1, 512), (512, 512), (1000, 512), (5000, 4608)])
def test_a_template_is_told_the_budget_in_steps_that_it_knows(
    shared_data: Path, budget: int, told: int
) -> None:
    source = (shared_data / "templates" / "ByteDance-Seed-OSS.jinja").read_text()
    model = Model(source, detect(source, lambda text: None, "seed_oss", Template(source).switch))
    assert f"the thinking budget, which is {told}." in model.prompt(budget).text
    assert "thinking budget, which is" not in model.prompt("on").text


def test_reflections_on_the_budget_are_thought(shared_data: Path) -> None:
    source = (shared_data / "templates" / "ByteDance-Seed-OSS.jinja").read_text()
    model = Model(source, detect(source, lambda text: None, "seed_oss", Template(source).switch))
    reflection = "<seed:cot_budget_reflect>I have used 2 tokens.</seed:cot_budget_reflect>"
    prompt = model.prompt(512)
    made = model.run(f"<seed:think>so{reflection}so</seed:think>Yes.", prompt, think=512)
    assert (made.thought, made.answer) == (f"so{reflection}so", "Yes.")
    assert model.family.message.endswith("</seed:cot_budget_reflect>")


def test_tags_that_no_template_shows() -> None:
    """Kimi's first thinking models have theirs in the vocabulary's letters only."""
    model = Model(None, KIMI_TRIANGLE, spelled=True)
    made = model.run_endless(unopened(model), think=12)
    assert (made.automaton.num_thinking, made.answer) == (12, "Yes.")
    assert "◁think▷" not in made.thought + made.answer


def test_a_heading_instead_of_a_tag() -> None:
    model = Model(None, APRIEL, spelled=True)
    made = model.run("so\n[BEGIN FINAL RESPONSE]\nYes.\n[END FINAL RESPONSE]", Prompt((0,), "", opened=True))
    assert (made.thought, made.answer) == ("so", "Yes.")


def test_tags_and_the_line_breaks_after_them_as_one_token() -> None:
    model = Model(None, replace(PLAIN, open_tag="<think>", close_tag="</think>"), spelled=True)
    model.words = Bytes("<think>\n", "</think>\n\n")
    model.planner = Planner(model.family, model.words, {})
    marks = model.planner.marks
    assert marks is not None
    assert marks.close == (ord("\n"), model.words.token_id("</think>\n\n"))
    for script in ("<think>\nso</think>\n\nYes.", "<think>\n" + "bee " * 30):
        made = model.run(script, unopened(model), think=20)
        assert made.automaton.num_thinking == (2 if "so" in script else 20)
        assert made.answer.startswith("Yes." if "so" in script else "")
        assert "think" not in made.thought + made.answer


@pytest.mark.parametrize("name", ["think_message", "think_wait"])
def test_words_that_would_end_a_thought_are_refused(name: str) -> None:
    model = harmony()
    with pytest.raises(InvalidRequest) as caught:
        model.plan(unopened(model), **{name: "so <|end|>", "think_rounds": 1})
    assert caught.value.field == name


@pytest.mark.parametrize(
    "family", [HARMONY, SOLAR, GEMMA4, SEED, COMMAND_A, MAGISTRAL, LING3], ids=lambda f: f.name
)
def test_streams_of_random_tokens(family: Family) -> None:
    """Whatever comes: no budget is exceeded, and a reply that ends has an answer of which something shows."""
    if family.open_tag is None:
        family = replace(family, open_tag="<think>", close_tag="</think>")
    model = Model(None, family)
    texts = [
        *tags_of(family),
        *model.words.tags,
        "assistant",
        "final",
        "analysis",
        "thought",
        " bee",
        "\n",
        ". ",
    ]
    for seed in range(120):
        rng = random.Random(seed)
        budget = rng.choice([0, 1, 3, 8, 20, 60])
        prompt = Prompt((0,), "", opened=rng.random() < 0.5)
        plan = model.plan(prompt, think=budget or "off", think_soft=rng.choice([0, 0.5]), think_message="so")
        weights = [rng.random() ** 3 for _ in texts]
        queue: list[int] = model.words.encode(
            model.opening(prompt) * (rng.random() < 0.6), parse_special=True
        )

        def draw(automaton: Automaton, queue: list[int] = queue, weights: list[float] = weights) -> int:
            if not queue:
                queue += model.words.encode(rng.choices(texts, weights)[0], parse_special=True)  # noqa: B023
            return queue.pop(0)

        made = reply(plan, family, model.words, draw, most=400)
        automaton = made.automaton
        assert automaton.num_thinking <= budget, seed
        if EOS in made.tokens:
            assert not automaton.thinking, seed
        if EOS in made.tokens and automaton.report().reason is not None:
            after = made.tokens[len(made.tokens) - automaton.num_answer :]
            silent = (
                automaton.marks.hidden | automaton.marks.header_begins | automaton.marks.header_ends | {EOS}
            )
            assert set(after) - silent, seed
