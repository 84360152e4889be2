"""How many of a reply's tokens are thought."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer.tokenizer import Tokenizer


class ThoughtCounter:
    """Counts the ids strictly between the tags where each tag is one token, else those that came while thinking."""

    def __init__(
        self, tokenizer: Tokenizer, open_tag: str | None, close_tag: str | None, opened: bool
    ) -> None:
        self.count = 0
        self._open = tokenizer.token_id(open_tag) if open_tag else None
        self._close = tokenizer.token_id(close_tag) if close_tag else None
        self._inside = opened
        self._by_id = self._open is not None and self._close is not None

    def feed(self, tokens: Sequence[int], *, thinking: bool) -> None:
        """Take the new ids; thinking: whether their text was a thought before and after them."""
        if not self._by_id:
            self.count += len(tokens) if thinking else 0
            return
        for token in tokens:
            if token == self._open:
                self._inside = True
            elif token == self._close:
                self._inside = False
            elif self._inside:
                self.count += 1
