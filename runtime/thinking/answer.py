"""An answer as it begins: whether anything of it shows yet, which neither spaces nor headers do."""

from __future__ import annotations

from .plan import Marks

_SPACES_BEFORE = 8  # tokens, after which a blank answer counts as one


class Answer:
    """The answer of one reply.

    is_final: it was asked for by force, in a message of its own that no other shall follow.
    """

    def __init__(self, marks: Marks, *, shows: bool = False, is_final: bool = False) -> None:
        self.shows = shows
        self.is_final = is_final
        self._marks = marks
        self._in_header = False
        self._num_spaces = 0

    def take(self, token: int, piece: bytes) -> None:
        """Move on by one token, whose bytes are `piece`."""
        marks = self._marks
        if token in marks.header_begins:
            self._in_header = True
        elif token in marks.header_ends:
            self._in_header = False
        elif not self._in_header:
            self._num_spaces += 1
            visible = bool(piece.strip()) and token not in marks.hidden
            self.shows |= visible or self._num_spaces >= _SPACES_BEFORE
