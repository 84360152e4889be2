"""With --deterministic a request gets the same bytes alone and among others, whatever the cache holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done
from mull.kernels.cpu.native import instruction_sets
from mull.llm import LLM
from mull.runtime.load_options import LoadOptions

COMPUTED_BY = ["none", *(isa.name for isa in instruction_sets()[:1])]


def requests() -> list[ChatRequest]:
    """Return requests of several lengths, some with a common beginning, that draw at random."""
    found = []
    for index in range(8):
        text = "".join(f"What is {17 * i + index} + {i}? " for i in range(1 + 5 * (index % 3)))
        options = {"temperature": 1.5, "seed": index, "num_predict": 12, "logprobs": 2, "ignore_eos": True}
        found.append(ChatRequest(messages=(Message("user", text),), options=options))
    return found


def answer(llm: LLM, request: ChatRequest) -> tuple[object, ...]:
    """Return a reply's tokens and what the model thought of them, to the last bit."""
    done = list(llm.chat(request))[-1]
    assert isinstance(done, Done)
    assert len(done.logprobs) == len(done.token_ids) > 0
    return done.token_ids, done.logprobs


@pytest.mark.parametrize("cpu", COMPUTED_BY)
def test_a_request_alone_and_among_seven_others(cpu):
    asked = requests()
    options = LoadOptions(num_ctx=1024, cpu=cpu, threads=2, deterministic=True, speculate="off")
    with LLM.open("pocket", options) as llm:
        first = [answer(llm, request) for request in asked[:2]]
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(lambda request: answer(llm, request), asked))
        # What the cache holds by now cuts the prompts elsewhere.
        again = [answer(llm, request) for request in asked]
    assert together[:2] == first
    assert again == together


def test_an_idle_engine_holds_nothing():
    with LLM.open("pocket", LoadOptions(num_ctx=1024)) as llm:
        replies = [
            llm.chat(replace(request, options={**request.options, "num_predict": 400}))
            for request in requests()
        ]
        for reply in replies:
            next(reply)
        for reply in replies:
            reply.close()
        llm.check()
        stats = llm.stats()
    assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)
    assert stats.cancelled + stats.finished == len(replies)
