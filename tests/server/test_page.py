"""The chat page in a real browser: models, a streamed answer, the folded thought and its meter, stop, answer now."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx2
import pytest
from browser import CHROMIUM, browsing
from fake_llm import FakeLLM
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Event, Reasoning, Text, Usage

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


class Musing(FakeLLM):
    """Thinks until it is told to answer, or to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        self.requests.append(request)
        yield Reasoning("hm")
        assert self.go_on.wait(200)
        yield Text("so")
        yield Done(Usage(), "stop", (), 0)

    def end_thinking(self, request_id: str) -> bool:
        if found := any(request.id == request_id for request in self.requests):
            self.go_on.set()
        return found

    def abort(self, request_id: str) -> None:
        self.go_on.set()


@pytest.fixture
def musing() -> Musing:
    return Musing()


@pytest.fixture
def thoughtful(musing, serve, fake_pool, tmp_path):
    """A page on which a reply thinks until it is told to answer."""
    with browsing(tmp_path) as page:
        page.call("Page.navigate", url=serve(pool=fake_pool(musing)).base_url)
        page.wait("document.querySelector('#model option')")
        ask(page, "Why?")
        page.wait("!document.getElementById('answer-now').hidden")
        yield page
        assert page.errors == []


@pytest.fixture
def page(live, tmp_path):
    with browsing(tmp_path) as page:
        page.call("Page.navigate", url=live.base_url)
        page.wait("document.querySelector('#model option')")
        yield page
        assert page.errors == []


def ask(page, text: str) -> None:
    page.evaluate("document.getElementById('input').focus()")
    page.type(text)
    page.press("Enter")


def finish(page, count: int = 1) -> None:
    page.wait(
        f"document.querySelectorAll('article.assistant').length === {count}"
        " && !document.getElementById('send').disabled"
    )


def set_value(page, element: str, value: object) -> None:
    page.evaluate(f"document.getElementById('{element}').value = '{value}'")


def answer(page) -> str:
    return page.evaluate("[...document.querySelectorAll('.answer')].at(-1).innerText.trim()")


def test_browsers_get_the_page_and_others_what_ollama_says(live):
    page = httpx2.get(live.base_url, headers={"Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert httpx2.get(live.base_url).text == "Ollama is running"
    assert httpx2.get(f"{live.base_url}/page/../app.py").status_code == 404
    assert httpx2.get(f"{live.base_url}/page/app.py").status_code == 404


@needs_browser
def test_a_conversation(page):
    set_value(page, "temperature", 0)
    ask(page, "What is 347 + 685?")
    finish(page)
    assert answer(page) == "1032"
    thought = page.evaluate("document.querySelector('.thought').textContent")
    assert "5+7" in thought or "7+5" in thought
    assert not page.evaluate("document.querySelector('details').open"), "the thought is folded"
    assert "tokens" in page.evaluate("document.querySelector('.facts').innerText")
    ask(page, "What is 2 + 3?")
    finish(page, 2)
    page.call("Page.reload")
    page.wait("document.querySelectorAll('article.assistant').length === 2")
    page.evaluate("document.getElementById('new').click()")
    assert page.evaluate("document.querySelectorAll('article').length") == 0


@needs_browser
def test_a_budget_has_its_meter(page):
    set_value(page, "temperature", 0)
    set_value(page, "think", "tokens")
    set_value(page, "think-tokens", 24)
    ask(page, "What is 98765 + 43219?")
    finish(page)
    assert page.evaluate("document.querySelector('meter').max") == 24
    assert 0 < page.evaluate("document.querySelector('meter').value") <= 24
    assert "/24" in page.evaluate("document.querySelector('.facts').innerText")
    assert answer(page)


@needs_browser
def test_what_a_model_writes_is_no_html(page):
    script = """
        const {markdown} = await import('/page/markdown.js');
        const text = ['# A `b`', '', '<img src=x onerror=alert(1)> **bold** [x](javascript:alert(1))', '', '- one',
            '- two', '  - inner', '', '```py', 'a < b', '```', '', '| a | b |', '|---|---|', '| 1 | *2* |'].join('\\n');
        document.getElementById('messages').append(...markdown(text));
        return document.getElementById('messages').innerHTML;
    """
    html = page.evaluate(f"(async () => {{ {script} }})()")
    assert html == (
        "<h2>A <code>b</code></h2><p>&lt;img src=x onerror=alert(1)&gt; <strong>bold</strong> [x](javascript:alert(1))"
        "</p><ul><li>one</li><li>two<ul><li>inner</li></ul></li></ul>"
        '<pre><code>a &lt; b</code><button type="button">copy</button></pre>'
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><em>2</em></td></tr></tbody></table>"
    )


@needs_browser
def test_errors_are_shown(page):
    set_value(page, "temperature", -3)
    ask(page, "Hello")
    page.wait("document.querySelector('article.error')")
    assert "temperature" in page.evaluate("document.querySelector('article.error').innerText")
    page.errors.clear()  # the browser itself notes the refusal


@needs_browser
def test_an_answer_may_be_had_now(thoughtful):
    thoughtful.evaluate("document.getElementById('answer-now').click()")
    finish(thoughtful)
    assert answer(thoughtful) == "so"


@needs_browser
def test_a_new_chat_forgets_the_reply_under_way(thoughtful, musing):
    thoughtful.evaluate("document.getElementById('new').click()")
    thoughtful.wait("!document.getElementById('send').disabled")
    ask(thoughtful, "And now?")
    finish(thoughtful)
    assert [message.role for message in musing.requests[-1].messages] == ["user"]
