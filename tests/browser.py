"""A headless Chromium of the tests, driven by the DevTools protocol over a pipe; tests skip where there is none."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab."""

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._answers: Queue[dict] = Queue()
        self.errors: list[str] = []
        self._last = 0
        self._session: str | None = None
        threading.Thread(target=self._listen, args=(read,), daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method: str, **params: object) -> dict:
        """Do what the protocol calls by this name."""
        self._last += 1
        session = {"sessionId": self._session} if self._session else {}
        message = json.dumps({"id": self._last, "method": method, "params": params, **session})
        os.write(self._write, message.encode() + b"\0")
        while True:
            answer = self._answers.get(timeout=60)
            if answer["id"] == self._last:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str) -> object:
        """Return the value of an expression; a promise's when it is there."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 40) -> None:
        """Wait until an expression is true, looking at every frame that the page paints or 20 times a second."""
        script = f"""new Promise((yes, no) => {{
            const end = Date.now() + {seconds * 1000};
            const look = () => ({condition}) ? yes(true) : Date.now() > end ? yes(false) : setTimeout(look, 50);
            look();
        }})"""
        assert self.evaluate(script), f"never came: {condition}\n{self.evaluate('document.body.innerText')}"

    def type(self, text: str) -> None:
        """Type where the cursor is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key."""
        code = {"Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: Path) -> None:
        """Write what is to be seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _listen(self, read: int) -> None:
        held = b""
        while piece := os.read(read, 1 << 16):
            *whole, held = (held + piece).split(b"\0")
            for message in map(json.loads, whole):
                if "id" in message:
                    self._answers.put(message)
                elif message["method"] == "Runtime.exceptionThrown":
                    self.errors.append(str(message["params"]["exceptionDetails"]))
                elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                    self.errors.append(message["params"]["entry"]["text"])


@contextmanager
def browsing(folder: Path, *, width: int = 1000, height: int = 760) -> Iterator[Page]:
    """Start Chromium with a profile in `folder`; it ends with the block."""
    assert CHROMIUM is not None
    to_child, write = os.pipe()
    read, from_child = os.pipe()
    flags = (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe",
        "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
        f"--user-data-dir={folder}", f"--window-size={width},{height}",
    )  # fmt: skip
    # The protocol's pipes are descriptors 3 and 4 of the browser.
    script = f'exec "$0" "$@" 3<&{to_child} 4>&{from_child}'
    process = subprocess.Popen(
        ["bash", "-c", script, CHROMIUM, *flags],
        pass_fds=(to_child, from_child),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_child)
    os.close(from_child)
    try:
        yield Page(write, read)
    finally:
        process.terminate()
        process.wait(30)
        os.close(write)
