"""Takes the picture of the chat page that the README shows: a live server, the demo model, headless Chromium.

python docs/take_screenshot.py docs/page.png       # wants .[test] and Chromium
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import uvicorn
from mull.server.app import make_app
from mull.server.options import ServerOptions
from mull.settings import load_settings

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import browsing

FINISHED = "!document.getElementById('send').disabled && document.querySelectorAll('article.assistant').length === {}"


def main(picture: Path) -> None:
    """Ask two questions, open a thought, and write what is to be seen."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"HOME": folder})
        app = make_app(ServerOptions(), settings)
        server = uvicorn.Server(uvicorn.Config(app, port=11999, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            with browsing(Path(folder), width=960, height=720) as page:
                page.wait("true")
                while not server.started:
                    page.wait("true")
                page.call("Page.navigate", url="http://127.0.0.1:11999")
                page.wait("document.querySelector('#model option')")
                page.evaluate("document.getElementById('temperature').value = 0")
                page.evaluate("document.getElementById('think').value = 'tokens'")
                page.evaluate("document.getElementById('think-tokens').value = 64")
                for count, question in enumerate(["What is 347 + 685?", "What is 98765 + 43219?"], start=1):
                    page.evaluate("document.getElementById('input').focus()")
                    page.type(question)
                    page.press("Enter")
                    page.wait(FINISHED.format(count))
                page.evaluate("document.querySelector('details').open = true")
                page.screenshot(picture)
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
