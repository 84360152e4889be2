"""`llm run`: prompts from everywhere, one reply or many, statistics, JSON, and Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_llm import USAGE, FakeLLM
from mull.chat.message import Message
from mull.chat.stream import Done, Reasoning, Text
from mull.cli import chat_lines, main, opening, run, terminal
from mull.cli.options import LoadFlags
from mull.cli.statistics import Reply, go_duration, statistics
from mull.cli.terminal import Terminal
from mull.errors import ContextExceeded

Run = Callable[..., tuple[int, str, str]]


class Piped(io.StringIO):
    """Standard input that is a pipe; the bytes are what was written into it."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.buffer = io.BytesIO(data)


class Typed(io.StringIO):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    fake = FakeLLM()
    monkeypatch.setattr(run, "open_llm", lambda *args, **options: fake)
    monkeypatch.setattr(sys, "stdin", Typed())
    yield fake
    assert fake.is_closed or not fake.requests


@pytest.fixture
def llm_run(llm: FakeLLM, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs `llm run fake` with more arguments: exit code, stdout, stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        code = main.run_command(["run", "fake", *args])
        return code, *capsys.readouterr()

    return call


def test_the_answer_goes_to_stdout_and_the_thought_to_stderr(llm_run: Run, llm: FakeLLM) -> None:
    assert llm_run("What", "now?") == (0, "answer\n", "so\n\n")
    (request,) = llm.requests
    assert request.messages == (Message("user", "What now?"),)
    assert (request.raw, request.think, dict(request.options)) == (None, None, {})


def test_options_reach_the_request_by_their_names(llm_run: Run, llm: FakeLLM) -> None:
    flags = "--temperature 0.5 --top-k 7 --min-p 0 --seed 9 -n 2K --stop END --stop . --think off --system Be"
    assert llm_run("hi", *flags.split())[0] == 0
    (request,) = llm.requests
    assert request.options == {
        "temperature": 0.5, "top_k": 7, "min_p": 0.0, "seed": 9, "num_predict": 2048, "stop": ["END", "."],
        "think": "off",
    }  # fmt: skip
    assert request.messages[0] == Message("system", "Be")


@pytest.mark.parametrize(
    ("piped", "words", "asked"),
    [
        (b"text\n", ["do"], "text\ndo"),
        (b"text", ["do", "it"], "text\ndo it"),
        (b"one\ntwo\n", [], "one\ntwo"),
        (b"", ["do"], "do"),
        ("größe".encode(), [], "größe"),
    ],
)
def test_what_is_piped_in_comes_first(
    piped: bytes, words: list[str], asked: str, llm_run: Run, llm: FakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(piped))
    assert llm_run(*words)[0] == 0
    assert llm.requests[0].messages[-1].content == asked


def test_a_raw_prompt_stays_as_it_is(llm_run: Run, llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b" once\n\n"))
    assert llm_run("--raw")[0] == 0
    assert (llm.requests[0].raw, llm.requests[0].messages) == (" once\n\n", ())


@pytest.mark.parametrize("piped", [b"", b" \n", b"\xff\xfe"])
def test_a_pipe_without_a_prompt_is_an_error(
    piped: bytes, llm_run: Run, llm: FakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(piped))
    code, out, err = llm_run()
    assert (code, out, llm.requests) == (1, "", [])
    assert err.startswith(
        "error: no prompt\nhint: " if piped != b"\xff\xfe" else "error: standard input is not UTF-8"
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--temperature -1", "temperature must be"),
        ("--top-p 2", "top_p must be"),
        ("--temperature nan", "temperature must be"),
        ("--threads -1", "--threads must be from 0"),
        ("--threads 100000", "--threads must be from 0"),
        ("--num-ctx 0", "the context must be at least 1"),
        ("--stop=", "stop must be"),
        ("--raw --system x", "--raw uses no template"),
        ("--think=maybe", "think must be auto, on, off, minimal"),
        ("--think 101%", "think 101% is more than all there is"),
        ("--think-budget -5", "think_budget must be a number of tokens"),
        ("--think-min 9 --think 8", "think_min 9 is above the thinking budget of 8"),
        ("--think-soft 2", "think_soft must be a number from 0 to 1"),
        ("--think-loop 1", "think_loop must be on, off, nudge"),
        ("--think-exit sometimes", "think_exit must be off, confidence"),
        ("--think-history all", "think_history must be one of auto"),
        ("--samples 0", "--samples must be from 1 to 64, not 0"),
    ],
)
def test_senseless_values_are_refused_before_the_model_is_loaded(
    flags: str, says: str, llm_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "open_llm", lambda *args, **options: pytest.fail("the model was loaded"))
    code, out, err = llm_run("hi", *flags.split())
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {says}")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--temprature 1", "no such option --temprature\nhint: did you mean --temperature?"),
        ("--num-ctx many", "--num-ctx / -c: 'many' is not a whole number"),
        ("--top-k x", "--top-k: 'x' is not a whole number"),
        ("--device tpu", "--device: 'tpu' is not one of"),
    ],
)
def test_wrong_command_lines_say_what_is_right(flags: str, says: str, llm_run: Run) -> None:
    code, _, err = llm_run("hi", *flags.split())
    assert code == 2
    assert err.startswith(f"error: {says}")
    assert "llm run --help" in err


def test_zero_threads_are_allowed(llm_run: Run) -> None:
    assert llm_run("hi", "--threads", "0")[0] == 0


def test_loading_options_are_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mull import llm as waist

    opened: list[tuple[str, waist.LoadOptions]] = []
    monkeypatch.setattr(waist.LLM, "open", lambda name, options, progress: opened.append((name, options)))
    (tmp_path / "m.gguf").touch()
    flags = LoadFlags(num_ctx=32768, threads=0, device="cpu", dtype="f32", speculate="3", draft="pocket")
    opening.open_llm(str(tmp_path / "m.gguf"), flags, Terminal.detect(), num_ctx=flags.num_ctx, quiet=True)
    ((_, options),) = opened
    assert options == waist.LoadOptions(
        dtype="f32", device="cpu", num_ctx=32768, threads=None, speculate="3", draft="pocket"
    )


def test_json_is_one_object_with_everything(llm_run: Run) -> None:
    code, out, err = llm_run("hi", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {
        "model": "fake", "text": "answer", "thinking": "so", "token_ids": [5, 6, 7], "finish_reason": "stop",
        "prompt_tokens": 26, "cached_tokens": 0, "thinking_tokens": 3, "completion_tokens": 298, "seed": 42,
        "sampled_tokens": 0, "forwarded_tokens": 0, "thinking_report": None, "format": None,
        "drafted": 0, "accepted": 0,
        "load_ms": 2150.0, "prompt_ms": 383.8, "eval_ms": 4790.0, "prompt_rate": 67.744, "eval_rate": 62.213,
    }  # fmt: skip


def test_verbose_tells_each_option_its_source_and_the_statistics(llm_run: Run) -> None:
    out, err = llm_run("hi", "--verbose", "--top-k", "7")[1:]
    lines = err.splitlines()
    assert out == "answer\n"
    for line in ("temperature 0.6 (gguf)", "top_k 7 (command line)", "top_p 0.95 (mull)", "seed 42 (random)"):
        assert line in lines
    assert "num_ctx 2048 (modelfile)" in lines
    assert ["num_ctx", "9", "(command", "line)"][0] in " ".join(lines)
    assert "eval rate:            62.21 tokens/s" in lines
    assert "num_ctx 2048 (command line)\n" in llm_run("hi", "--verbose", "-c", "2K")[2]


def test_statistics_are_ollamas() -> None:
    done = Done(USAGE, "stop", (), 1)
    assert statistics(Reply("", "", done, 5.191566416)) == [
        "total duration:       5.191566416s",
        "load duration:        2.15s",
        "prompt eval count:    26 token(s)",
        "prompt eval duration: 383.8ms",
        "prompt eval rate:     67.74 tokens/s",
        "eval count:           298 token(s)",
        "eval duration:        4.79s",
        "eval rate:            62.21 tokens/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (5e-9, "5ns"), (1.5e-6, "1.5µs"), (1e-3, "1ms"), (0.3838, "383.8ms"), (1, "1s"),
        (59.999999999, "59.999999999s"), (60, "1m0s"), (3600, "1h0m0s"), (3723.5, "1h2m3.5s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_an_error_within_a_reply_is_a_line(llm_run: Run, llm: FakeLLM) -> None:
    llm._replies = [[Text("par"), ContextExceeded("too long", hint="--num-ctx 4096")]]
    assert llm_run("hi") == (1, "par\n", "error: too long\nhint: --num-ctx 4096\n")


def test_an_interrupt_stops_the_reply_and_says_nothing(llm_run: Run, llm: FakeLLM) -> None:
    llm._replies = [[Text("par"), KeyboardInterrupt()]]
    assert llm_run("hi") == (130, "par\n", "")
    assert llm.num_stopped == 1


def test_a_reader_that_goes_away_stops_the_reply(llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        main.run_command(["run", "fake", "hi"])
    assert llm.num_stopped == 1


@pytest.mark.parametrize(
    ("flags", "says"), [((), "no prompt"), (("--json",), "--json needs"), (("--raw",), "--raw needs")]
)
def test_a_chat_needs_a_terminal_both_ways(flags: tuple[str, ...], says: str, llm_run: Run) -> None:
    code, _, err = llm_run(*flags)
    assert code == 1
    assert err.startswith(f"error: {says}")


@pytest.fixture
def chat(llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what types lines (or errors) into a chat on a terminal, and returns the screen."""

    def type_in(*lines: str | type[BaseException], flags: tuple[str, ...] = ()) -> str:
        waiting = iter(lines)
        out = io.StringIO()

        def read(prompt: str) -> str:
            out.write(prompt)
            line = next(waiting, EOFError)
            if not isinstance(line, str):
                raise line
            out.write(line + "\n")
            return line

        monkeypatch.setattr("builtins.input", read)
        screen = Terminal(out, out, True, True, False)
        monkeypatch.setattr(Terminal, "detect", lambda *, color: screen)
        assert main.run_command(["run", "fake", *flags]) == 0
        return out.getvalue()

    return type_in


def test_a_chat_remembers_what_was_said(chat: Callable[..., str], llm: FakeLLM) -> None:
    screen = chat("hi", "", "and?", "/bye", flags=("--system", "Be"))
    assert screen.count("answer\n") == 2
    first = (Message("system", "Be"), Message("user", "hi"))
    assert llm.requests[0].messages == first
    assert llm.requests[1].messages == (
        *first, Message("assistant", "answer", thinking="so"), Message("user", "and?"),
    )  # fmt: skip


def test_several_lines_are_one_message(chat: Callable[..., str], llm: FakeLLM) -> None:
    chat('"""one', "", 'two"""', '"""three"""')
    assert [request.messages[-1].content for request in llm.requests] == ["one\n\ntwo", "three"]


def test_a_full_context_is_told(llm_run: Run, llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is full" not in llm_run("hi")[2]
    llm.context_length = 26 + 298
    llm.reason = "length"
    code, out, err = llm_run("hi")
    assert (code, out) == (0, "answer\n")
    assert "note: the context of 324 tokens is full" in err


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(chat: Callable[..., str], llm: FakeLLM) -> None:
    llm._replies = [[Text("par"), KeyboardInterrupt()], [Reasoning("hm"), KeyboardInterrupt()], [Text("ok")]]
    screen = chat("one", "two", KeyboardInterrupt, "three")
    assert "/bye or Ctrl-D leaves." in screen
    assert llm.num_stopped == 2
    # What had come of an answer stays; a question without any answer does not.
    assert [message.content for message in llm.requests[2].messages] == ["one", "par", "three"]


def test_an_error_does_not_end_the_chat(chat: Callable[..., str], llm: FakeLLM) -> None:
    llm._replies = [[ContextExceeded("too long", hint="shorten it")], [Text("ok")]]
    screen = chat("one", "two")
    assert "error: too long\nhint: shorten it\n" in screen
    assert [message.content for message in llm.requests[1].messages] == ["two"]


def test_unknown_commands_are_not_sent_to_the_model(chat: Callable[..., str], llm: FakeLLM) -> None:
    screen = chat("/foo", "/set parameter top_k 1", "/? set", "/etc/passwd is what?")
    assert "error: there is no command /foo here\n" in screen
    assert "error: there is no command /set here\n" in screen
    assert "no command /?" not in screen
    assert [request.messages[-1].content for request in llm.requests] == ["/etc/passwd is what?"]


def test_verbose_tells_the_options_once(chat: Callable[..., str]) -> None:
    screen = chat("one", "two", flags=("--verbose",))
    assert (screen.count("temperature 0.6"), screen.count("eval rate:            ")) == (1, 2)


def test_the_chat_reads_lines_as_input_does() -> None:
    assert chat_lines.is_command("/foo ")
    assert not chat_lines.is_command("/tmp/x")
    assert not terminal.is_tty(None)


def test_several_pasted_lines_are_one_message() -> None:
    program = (
        "from mull.cli.chat_lines import edit_lines, read_message\n"
        "edit_lines(); print('ready'); print('read', repr(read_message()))\n"
    )
    controller, terminal_fd = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=terminal_fd, stdout=terminal_fd, env=environment
    )
    os.close(terminal_fd)
    screen = b""
    while b"\x1b[?2004h" not in screen:
        screen += os.read(controller, 1024)
    os.write(controller, b"\x1b[200~one\ntwo\x1b[201~\r")
    while b"read" not in screen:
        screen += os.read(controller, 1024)
    assert process.wait(timeout=60) == 0
    screen += os.read(controller, 1024)
    os.close(controller)
    assert b"'one\\ntwo'" in screen
