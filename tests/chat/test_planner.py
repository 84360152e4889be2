"""From options to a plan in ids: whose word counts, which words are put in, and what cannot be enforced."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mull.chat.families.family import Family
from mull.chat.families.harmony import HARMONY
from mull.chat.families.plain import PLAIN
from mull.chat.families.qwen3 import QWEN3
from mull.chat.message import Message
from mull.chat.planner import Planner
from mull.chat.request import ChatRequest
from mull.chat.tool_calls.named import HARMONY as HARMONY_CALLS
from mull.errors import InvalidRequest, NotSupported
from mull.runtime.thinking.plan import ThinkingPlan


class Letters:
    """A tokenizer of one token per letter; those of `tags` are one token each."""

    tags = ("<think>", "</think>", "<tool_call>")

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]:
        ids: list[int] = []
        while text:
            tag = next((tag for tag in self.tags if parse_special and text.startswith(tag)), text[0])
            ids.append(0x110000 + self.tags.index(tag) if tag in self.tags else ord(tag))
            text = text[len(tag) :]
        return ids

    def decode(self, ids: object) -> str:
        assert isinstance(ids, list | tuple)
        return "".join(self.tags[i - 0x110000] if i >= 0x110000 else chr(i) for i in ids)

    def token_id(self, text: str) -> int | None:
        return 0x110000 + self.tags.index(text) if text in self.tags else None


class Deaf(Letters):
    """A tokenizer that cannot write an angle."""

    tags = ()

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]:
        return [ord(letter) for letter in text if letter not in "<>"]


THINKING = replace(QWEN3, open_tag="<think>", close_tag="</think>")


def planner(
    family: Family = THINKING, budget: str | None = None, most: str | None = None, **said: object
) -> Planner:
    return Planner(family, Letters(), said, budget, most)


def ask(text: str = "hi", think: str | int | bool | None = None, **options: object) -> ChatRequest:
    return ChatRequest((Message("user", text),), think=think, options=options)


def plan(made: Planner, request: ChatRequest, *, opened: bool = True, window: int = 4000) -> ThinkingPlan:
    found, _ = made.plan(request, made.options(request), window, opened=opened)
    assert found is not None
    return found


def text(ids: tuple[int, ...]) -> str:
    return Letters().decode(ids)


def test_request_before_modelfile_before_environment() -> None:
    made = planner(budget="64", think_budget=32, think_min=3, temperature=1.0)
    assert plan(planner(budget="64"), ask()).budget == 64
    assert plan(made, ask()).budget == 32
    assert plan(made, ask(think=16)).budget == 16
    assert plan(made, ask(think_budget=8)).budget == 8
    assert (plan(made, ask(think=True)).budget, plan(made, ask()).minimum) == (32, 3)
    assert plan(made, ask(think="off")).budget == 0
    assert made.options(ask(think=16, think_min=1)).minimum is not None


def test_the_most_that_is_allowed_binds_everybody() -> None:
    made = planner(most="20")
    assert plan(made, ask(think=500)).budget == 20
    assert plan(made, ask(think=500)).requested == 500
    assert plan(made, ask()).budget == 20
    raw = ChatRequest(raw="x")
    assert plan(made, raw, opened=False).budget == 20


@pytest.mark.parametrize(
    "bad", [{"budget": "lots"}, {"most": "lots"}, {"most": "-1"}, {"most": "50%"}, {"budget": "120%"}]
)
def test_an_environment_that_makes_no_sense_is_named(bad: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        planner(**bad)  # type: ignore[arg-type]
    assert f"MULL_THINK_{'MAX' if 'most' in bad else 'BUDGET'}" in caught.value.message


def test_a_model_that_cannot_think() -> None:
    made = planner(replace(PLAIN), think_budget=32)
    for silent in (ask(), ask(think="off"), ask(think="auto"), ask(think_min=5)):
        assert made.plan(silent, made.options(silent), 4000, opened=False) == (None, ())
    for asking in (ask(think=512), ask(think="on"), ask(think="low"), ask(think_budget=3)):
        with pytest.raises(NotSupported, match="cannot think"):
            made.options(asking)


def test_tags_that_the_vocabulary_cannot_spell_are_told() -> None:
    made = Planner(THINKING, Deaf(), {})
    assert made.marks is None
    asking = ask(think=5)
    found, notes = made.plan(asking, made.options(asking), 4000, opened=True)
    assert found is None
    assert "have no effect" in notes[0]
    assert made.plan(ask(), made.options(ask()), 4000, opened=True) == (None, ())
    limited = Planner(THINKING, Deaf(), {}, None, "9")
    assert limited.plan(ask(), limited.options(ask()), 4000, opened=True)[1] != ()


def test_a_raw_prompt_is_left_alone_unless_it_thinks_or_is_asked_to() -> None:
    made, raw = planner(), ChatRequest(raw="x")
    assert made.plan(raw, made.options(raw), 4000, opened=False) == (None, ())
    assert plan(made, raw, opened=True).opened
    assert plan(made, ChatRequest(raw="x", options={"think": "off"}), opened=False).budget == 0
    assert plan(made, ChatRequest(raw="x", think=7), opened=False).budget == 7


def test_what_is_put_in() -> None:
    speaking = planner(replace(THINKING, message="Enough of that."))
    found = plan(speaking, ask(think_rounds=1, think_loop="nudge", think_exit="confidence"))
    assert text(found.message) == "Enough of that."
    assert text(found.marks.close) == "\n</think>\n\n"
    assert found.marks.close_inside == 1
    assert [text(wait) for wait in found.waits] == ["\nWait"]
    assert text(found.nudge).startswith("\nLet me")
    assert text(found.answer_prefix) == "The final answer is "
    assert (plan(planner(), ask()).nudge, plan(planner(), ask()).answer_prefix) == ((), ())
    assert text(plan(planner(), ask(think_message="Well.")).message) == "Well."
    assert plan(speaking, ask(think_message="")).message == ()
    assert len(THINKING.message) > 32
    assert plan(planner(), ask()).message == (), "words that this vocabulary only spells letter by letter"
    assert text(plan(planner(), ask(think_message="x" * 40)).message) == "x" * 40
    assert text(plan(planner(), ask(think_wait="Hm")).waits[0]) == "Hm"
    assert plan(planner(), ask(think_wait="")).waits == ()


def test_a_chinese_question_is_answered_in_chinese() -> None:
    assert text(plan(planner(), ask("三百四十七加六百八十五是多少")).waits[0]) == "\n等等"


def test_marks_of_tags_that_are_one_token() -> None:
    marks = planner().marks
    assert marks is not None
    assert (marks.end_id, marks.single) == (0x110001, {0x110000, 0x110001})
    assert (marks.tools, marks.tool_ids) == (("<tool_call>",), (0x110002,))


def test_room_is_kept_for_a_tag_that_the_model_writes_itself() -> None:
    opened, own = plan(planner(), ask(), window=100), plan(planner(), ask(), window=100, opened=False)
    assert own.budget < opened.budget


def test_notes_are_passed_on() -> None:
    request = ask(think=5000)
    _, notes = planner().plan(request, planner().options(request), 400, opened=True)
    assert "not 5000" in notes[0]


def test_a_call_that_must_come_follows_a_thought_in_its_own_way():
    tool = {"type": "function", "function": {"name": "f"}}
    family = replace(HARMONY, tools=HARMONY_CALLS)

    def planned(**fields: object) -> ThinkingPlan:
        request = ChatRequest((Message("user", "hi"),), tools=(tool,), **fields)  # type: ignore[arg-type]
        made = Planner(family, Letters(), {})
        plan, _ = made.plan(request, made.options(request), 500, opened=False)
        assert plan is not None
        return plan

    forced, free = planned(forced_tool="f"), planned()
    assert Letters().decode(list(forced.marks.close)) == "<|end|><|start|>assistant"
    assert Letters().decode(list(forced.lead)) == "<|start|>assistant"
    assert not forced.is_final
    assert Letters().decode(list(free.marks.close)).endswith("final<|message|>")
    assert not free.lead
    assert free.is_final


def test_a_turn_has_one_budget_however_many_calls_it_takes():
    loop = (
        Message("user", "hi"),
        Message("assistant", "no", thinking="x" * 50),
        Message("user", "and?"),
        Message("assistant", thinking="x" * 7),
        Message("tool", "1"),
        Message("assistant", thinking="x" * 5),
        Message("tool", "2"),
    )
    made = planner()

    def budget(think: int | str, num: int) -> tuple[int, bool]:
        request = ChatRequest(loop[:num], think=think)
        plan, notes = made.plan(request, made.options(request), 500, opened=False)
        assert plan is not None
        return plan.budget, any("earlier in this turn" in note for note in notes)

    assert [budget(100, num) for num in (3, 5, 7)] == [(100, False), (93, True), (88, True)]
    assert budget(10, 7) == (0, True)
    assert budget("on", 7)[1] is False
