"""Token ids in, whole characters out: bytes wait until their character is complete or surely broken."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


class TextStream:
    """Decodes one sequence as it grows; all pieces of feed() and flush() together are decode()'s text."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool, drop_space: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._drop_space = drop_space
        self._at_start = drop_space
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Take one more token; return the characters that it completes, often none."""
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        data = self._tokenizer.token_bytes(token_id)
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
