"""Reports on tokens come with the text that the tokens have made."""

from __future__ import annotations

import pytest
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Reasoning, Text
from mull.llm import LLM


@pytest.fixture(scope="module")
def pocket():
    with LLM.open("pocket") as llm:
        yield llm


@pytest.mark.parametrize("options", [{"think": "off"}, {"think": 24}, {}, {"stop": ["3"]}], ids=str)
def test_reports_on_tokens(pocket: LLM, options: dict[str, object]) -> None:
    request = ChatRequest(
        (Message("user", "What is 347 + 685?"),), options={"temperature": 0, "logprobs": 1, **options}
    )
    events = list(pocket.chat(request))
    (done,) = (event for event in events if isinstance(event, Done))
    told, answer = [], ""
    for event in events:
        if isinstance(event, Text | Reasoning):
            # What was put there, as at a thought's end, nobody drew.
            made = b"".join(pocket.tokenizer.token_bytes(one.token) for one in event.logprobs)
            assert event.text.encode() in made or not event.logprobs
            told += event.logprobs
            answer += event.text if isinstance(event, Text) else ""
    assert told
    assert told == [one for one in done.logprobs if one in told]
    if options == {"think": "off"}:
        assert b"".join(pocket.tokenizer.token_bytes(one.token) for one in told) == answer.encode()


def test_none_where_none_were_asked_for(pocket: LLM) -> None:
    events = list(pocket.chat(ChatRequest((Message("user", "What is 2 + 2?"),), options={"seed": 1})))
    assert not any(event.logprobs for event in events if isinstance(event, Text | Reasoning | Done))
