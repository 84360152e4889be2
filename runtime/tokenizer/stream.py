"""Token ids in, whole characters out: bytes wait until their character is complete or surely broken."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable


class TextStream:
    """Decodes one sequence as it grows; all pieces of feed() and flush() together are decode()'s text.

    token_bytes: the bytes that a token adds, none for those to leave out.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], *, drop_space: bool) -> None:
        self._token_bytes = token_bytes
        self._drop_space = drop_space
        self._at_start = drop_space
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Take one more token; return the characters that it completes, often none."""
        data = self._token_bytes(token_id)
        if self._at_start and data:
            self._at_start = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return what still waits, a broken character as U+FFFD, and start over."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        self._at_start = self._drop_space
        return text
