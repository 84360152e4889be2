"""The entry: what `llm` lists and imports, and how it ends: wrong usage, signals, closed pipes."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mull import __version__
from mull.cli import clash, commands, main, rm
from mull.errors import ModelNotFound

TESTS = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "gguf", "transformers", "rich", "prompt_toolkit", "importlib.metadata")

ENDS = [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
ENDLESS = """
import itertools, sys
from fake_llm import FakeLLM
from mull.chat.stream import Text
from mull.cli import main, run
class Endless(list):
    def __iter__(self):
        return map(Text, itertools.repeat("more and more\\n"))
run.open_llm = lambda *args, **options: FakeLLM(Endless())
sys.argv[0] = "llm"
main.main()
"""


def llm(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    code = "from mull.cli.main import main; main()"
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", code, *args],
        **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options},
    )


def in_process(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main.run_command(list(args))
    return code, *capsys.readouterr()


@pytest.mark.parametrize("args", [(), ("--help",), ("list", "--help"), ("version",)])
def test_help_imports_nothing_heavy_and_no_other_command(args: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom mull.cli import main\n"
        f"assert main.run_command({list(args)}) == 0\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)\n"
        "print([m for m in sys.modules if m.startswith('mull.cli.')], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, ours = done.stderr.splitlines()
    assert heavy == "[]"
    loaded = {name for name in commands.COMMANDS if f"'mull.cli.{name}'" in ours}
    assert loaded == ({args[0]} if args and not args[0].startswith("-") else set())


def test_help_lists_each_command_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys)
    assert code == 0
    assert out == in_process(capsys, "--help")[1] == in_process(capsys, "help")[1]
    assert in_process(capsys, "help", "list") == in_process(capsys, "list", "--help")
    for name, summary in commands.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", out, re.MULTILINE)


@pytest.mark.parametrize("name", [*commands.COMMANDS, *commands.ALIASES])
def test_each_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys, name, "--help")
    assert code == 0
    usage, _, rest = out.partition("\n")
    assert usage.startswith(f"Usage: llm {name} [OPTIONS]")
    assert "{" not in usage
    examples = rest.partition("\n  Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    assert all("llm" in line for line in examples)
    assert max(map(len, out.splitlines())) <= 80


def test_version_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(capsys, "--version") == (0, f"mull {__version__}\n", "")
    assert in_process(capsys, "version") == (0, f"mull {__version__}\n", "")


def _no_option(name: str, hint: str) -> str:
    return f"error: no such option {name}\nhint: {hint}\n"


@pytest.mark.parametrize(
    ("args", "err"),
    [
        (("lst",), "error: no such command 'lst'\nhint: did you mean list? (llm --help)\n"),
        (("zzz",), "error: no such command 'zzz'\nhint: llm --help\n"),
        (("list", "--jsn"), "error: no such option --jsn\nhint: did you mean --json? (llm list --help)\n"),
        (("--hlep",), "error: no such option --hlep\nhint: did you mean --help? (llm --help)\n"),
        (("run", "m", "--temp", "1"), _no_option("--temp", "did you mean --temperature? (llm run --help)")),
        (
            ("run", "m", "--ctx-size", "1"),
            _no_option("--ctx-size", "did you mean --num-ctx? (llm run --help)"),
        ),
        (("run", "m", "--colour", "red"), _no_option("--colour", "llm run --help")),
        (("list", "--temp", "1"), _no_option("--temp", "llm list --help")),
        (("run", "m", "--stop"), "error: option '--stop' requires an argument\nhint: llm run --help\n"),
        (("show",), "error: missing argument 'MODEL'\nhint: llm show --help\n"),
    ],
)
def test_usage_errors_name_the_nearest(
    args: tuple[str, ...], err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(capsys, *args) == (2, "", err)


def test_each_error_has_its_exit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: BaseException) -> tuple[int, str, str]:
        def command() -> None:
            raise error

        monkeypatch.setattr(rm, "command", command)
        return in_process(capsys, "rm")

    assert failing(ModelNotFound("no qwen9", hint="qwen3")) == (1, "", "error: no qwen9\nhint: qwen3\n")
    assert failing(PermissionError(13, "Permission denied", "/m")) == (
        1,
        "",
        "error: /m: permission denied\n",
    )
    assert failing(MemoryError())[2].startswith("error: out of memory\n")
    assert failing(KeyboardInterrupt()) == (130, "", "")
    wrapped = ImportError("half a module")
    wrapped.__context__ = KeyboardInterrupt()
    assert failing(wrapped) == (130, "", "")
    with pytest.raises(RuntimeError, match="a bug"):
        failing(RuntimeError("a bug"))


@pytest.fixture
def endless() -> Iterator[subprocess.Popen[str]]:
    """A run that answers without end, its first line already printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, "run", "fake", "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "more and more\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_signals_end_a_run_quietly(endless: subprocess.Popen[str], number: int, code: int) -> None:
    endless.send_signal(number)
    _, err = endless.communicate(timeout=60)
    assert (endless.returncode, err) == (code, "")


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_an_import_cannot_swallow_a_signal(number: int, code: int) -> None:
    program = (
        "import os\nfrom mull.cli.signals import ending_at_once\n"
        "with ending_at_once(lambda: os.write(1, b'clean')):\n"
        f"  try: os.kill(os.getpid(), {int(number)})\n"
        "  except BaseException: pass\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "clean", "")


def test_a_thread_in_the_midst_of_something_does_not_turn_a_signal_into_an_abort() -> None:
    program = (
        "import atexit, sys\nfrom mull.cli import main\n"
        "def interrupted(*args): raise KeyboardInterrupt\n"
        "main.run_command = interrupted\natexit.register(lambda: print('python ended itself'))\nmain.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    program = (
        "import os, signal\nfrom mull.cli.signals import end_in_order, ending_at_once\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nend_in_order()\n"
        "with ending_at_once(lambda: None): os.kill(os.getpid(), signal.SIGHUP)\n"
        "os.kill(os.getpid(), signal.SIGHUP)\nprint('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "still here\n", "")


def test_no_import_of_a_command_swallows_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    during = []

    def load(*args: object) -> object:
        during.append(signal.getsignal(signal.SIGINT))
        return rm

    monkeypatch.setattr(commands, "import_module", load)
    main.run_command(["rm", "--help"])
    assert during != [before]
    assert signal.getsignal(signal.SIGINT) == before


def test_a_closed_pipe_ends_a_run_quietly(endless: subprocess.Popen[str]) -> None:
    assert endless.stdout is not None
    assert endless.stderr is not None
    endless.stdout.close()
    assert endless.wait(timeout=60) == main.NO_READER
    assert endless.stderr.read() == ""


def test_a_closed_pipe_ends_any_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = llm("--help", stdout=writing, stderr=subprocess.PIPE, capture_output=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (main.NO_READER, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = llm("version", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (1, "error: no space left on device\n")


def test_closed_streams_and_odd_encodings_do_no_harm() -> None:
    code = (
        "import os; [os.close(i) for i in (0, 1)]; os.execvp({0!r}, [{0!r}, '-c', {1!r}, 'version'])".format(
            sys.executable, "from mull.cli.main import main; main()"
        )
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = llm("grüße", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.stderr.startswith("error: no such command 'gr\\xfc\\xdfe'")


def test_another_llm_is_mentioned_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site-packages"
    (site / "mull-0.1.0.dist-info").mkdir(parents=True)
    (site / "llm_extras-1.dist-info").mkdir()
    path = ["", str(tmp_path / "gone-packages"), str(site)]
    clash.note_clash(tmp_path / "state", path)
    assert capsys.readouterr().err == ""
    (site / "llm-0.32.dist-info").mkdir()
    clash.note_clash(tmp_path / "state", path)
    clash.note_clash(tmp_path / "state", path)
    err = capsys.readouterr().err
    assert err.count("note: another package named llm (0.32)") == 1
    assert "`mull`" in err


def test_a_chat_in_a_real_terminal() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, "run", "fake"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
        env={**os.environ, "PYTHONPATH": str(TESTS), "TERM": "dumb"},
    )
    os.close(theirs)
    try:
        _wait_for(ours, ">>> ")
        os.write(ours, b"hi\r")
        _wait_for(ours, "more and more")
        os.write(ours, b"\x03")
        _wait_for(ours, ">>> ")
        # A Ctrl-C in the instant before readline listens is only seen with the next key.
        _wait_for(ours, "leaves.", typing=b"\x03")
        os.write(ours, b"/bye\r")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _wait_for(terminal: int, text: str, typing: bytes = b"") -> None:
    """Read until a text comes; `typing` is typed first, and again while nothing happens."""
    seen = ""
    waits = 0
    os.write(terminal, typing)
    while text not in seen:
        if not select.select([terminal], [], [], 2)[0]:
            waits += 1
            assert waits < 30, f"waited for {text!r}, saw {seen[-500:]!r}"
            os.write(terminal, typing)
            continue
        seen = seen[-1000:] + os.read(terminal, 4096).decode(errors="replace")
