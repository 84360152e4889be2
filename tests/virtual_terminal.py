"""The real program on a terminal that is drawn in memory: keys go in, the screen can be looked at."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pexpect
import pyte

PATIENCE = 60.0  # seconds; only a broken test waits so long


class VirtualTerminal:
    """A program and its screen; the terminal answers where the cursor is, as real ones do."""

    def __init__(
        self, arguments: list[str], environment: Mapping[str, str], size: tuple[int, int] = (80, 24)
    ):
        columns, rows = size
        self.screen = pyte.HistoryScreen(columns, rows, history=5000)
        self.screen.write_process_input = self._answer
        self._stream = pyte.ByteStream(self.screen)
        self._process = pexpect.spawn(
            sys.executable,
            ["-m", "mull.cli.main", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **environment},
            dimensions=(rows, columns),
            timeout=PATIENCE,
        )
        self.raw = b""

    def send(self, keys: str | bytes) -> None:
        """Press keys."""
        self._process.send(keys)

    def type(self, line: str) -> None:
        """Type a line and Enter, once the prompt is there."""
        self.wait(self.is_ready)
        self.send(line + "\r")

    def wait(self, condition: str | Callable[[], bool]) -> str:
        """Read until a text is on the screen, or a condition holds; return the screen."""
        wanted = (lambda: condition in self.text) if isinstance(condition, str) else condition
        deadline = time.monotonic() + PATIENCE
        while not wanted():
            assert time.monotonic() < deadline, f"never came: {condition}\n{self.text}"
            assert self._read(), f"it ended before {condition}\n{self.text}"
        return self.text

    def is_ready(self) -> bool:
        """Whether an empty prompt waits: its placeholder is there.

        A Ctrl-C that comes while the terminal changes its mode, after a reply, is echoed before it.
        """
        echoed, prompt, _ = self.screen.display[self.screen.cursor.y].partition(">>> ")
        return prompt != "" and echoed in ("", "^C") and self.screen.cursor.x in (4, 4 + len(echoed))

    def leave(self) -> int:
        """Press Ctrl-D until the program ends; return its exit code.

        One that comes while the terminal changes its mode, after a reply, is the end of a line and is lost.
        """
        deadline = time.monotonic() + PATIENCE
        self.wait(self.is_ready)
        reads = 0
        while True:
            if reads % 20 == 0 and self._process.isalive():
                self.send("\x04")
            reads += 1
            assert time.monotonic() < deadline, f"it never ended\n{self.text}"
            if not self._read():
                return self.end()

    def end(self) -> int:
        """Wait for the program's end and return its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, f"it never ended\n{self.text}"
        self._process.close()
        code = self._process.exitstatus
        return -int(self._process.signalstatus or 0) if code is None else int(code)

    def kill(self, number: int) -> None:
        """Send a signal."""
        self._process.kill(number)

    def resize(self, columns: int, rows: int) -> None:
        """Change the window."""
        self.screen.resize(rows, columns)
        self._process.setwinsize(rows, columns)

    @property
    def text(self) -> str:
        """What is on the screen, and has left it at its top."""
        return "\n".join([*self._gone(), *(line.rstrip() for line in self.screen.display)])

    @property
    def lines(self) -> list[str]:
        """The lines that are on the screen now."""
        return [line.rstrip() for line in self.screen.display]

    def close(self) -> None:
        """End whatever is left of it."""
        self._process.close(force=True)

    def _gone(self) -> list[str]:
        width = self.screen.columns
        return ["".join(row[x].data for x in range(width)).rstrip() for row in self.screen.history.top]

    def _read(self) -> bool:
        try:
            data = self._process.read_nonblocking(65536, timeout=0.2)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def _answer(self, data: str) -> None:
        self._process.send(data)


def private(folder: Path) -> dict[str, str]:
    """Return an environment whose kept files are all in a folder."""
    return {
        "XDG_STATE_HOME": str(folder / "state"),
        "MULL_MODELS": str(folder / "models"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "",
        "MULL_THINK_BUDGET": "",
        "PYTHONWARNINGS": "error",
    }
