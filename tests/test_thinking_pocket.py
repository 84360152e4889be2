"""The demo model under every small window and limit: thoughts stay within budgets, and an answer always comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Reasoning, Text
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions
from mull.settings import load_settings

OPTIONS = [
    {},
    {"think": "off"},
    {"think": 3},
    {"think": 500},
    {"think_reserve": 0},
    {"think_min": 10, "think_rounds": 3},
    {"think_exit": "confidence:0.1", "think_reserve": 0},
]


@pytest.fixture(scope="module", params=[None, 40, 64])
def pocket(request: pytest.FixtureRequest) -> Iterator[LLM]:
    """The demo model, its context wide or narrow."""
    with LLM.open("pocket", LoadOptions(num_ctx=request.param)) as llm:
        yield llm


def ask(llm: LLM, **options: object) -> tuple[str, str, Done]:
    """Return thought, answer and end of a reply."""
    request = ChatRequest((Message("user", "What is 347 + 685?"),), options={"seed": 1, **options})
    thought, answer, done = "", "", None
    for event in llm.chat(request):
        if isinstance(event, Text):
            answer += event.text
        elif isinstance(event, Reasoning):
            thought += event.text
        elif isinstance(event, Done):
            done = event
    assert done is not None
    return thought, answer, done


@pytest.mark.parametrize("num_predict", [1, 2, 3, 4, 7, 12, 20])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_however_little_room_there_is(pocket: LLM, num_predict: int, options: dict[str, object]) -> None:
    thought, answer, done = ask(pocket, num_predict=num_predict, **options)
    report, usage = done.thinking.report, done.usage
    assert report is not None
    assert report.tokens <= report.budget
    assert answer
    assert not (thought and report.reason is None)
    assert usage.forwarded_tokens == (
        usage.prompt_tokens - usage.cached_tokens + usage.sampled_tokens - 1 + report.injected
        + report.probe_tokens + usage.drafted_tokens - usage.accepted_tokens
    )  # fmt: skip


def test_stop_texts_do_not_end_thoughts(pocket: LLM) -> None:
    thought, answer, _ = ask(pocket, think=12, num_predict=24, stop=["\n", "3", "</think>"])
    assert "3" in thought
    assert "3" not in answer


def test_an_allowance_of_nothing_is_the_templates_own_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULL_THINK_MAX", "0")
    with LLM.open("pocket", settings=load_settings()) as llm:
        thought, answer, done = ask(llm, think=100)
    assert (thought, bool(answer)) == ("", True)
    assert done.thinking.report is not None
    assert (done.thinking.report.budget, done.thinking.report.injected) == (0, 0)
