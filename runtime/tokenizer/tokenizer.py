"""Text to token ids and back, the same for every kind of vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from ...models.checkpoint.token_types import BYTE, CONTROL, NORMAL, UNKNOWN
from .stream import TextStream
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


@dataclass(frozen=True, slots=True)
class Frame:
    """What a vocabulary puts around a text, and the ids that end a generation; eos_id: the file's own among them.

    drop_space: encoding puts a space before the text, so decoding takes one away.
    """

    bos_id: int | None
    eos_id: int | None
    eos_ids: frozenset[int]
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    drop_space: bool = False


class Tokenizer:
    """Encodes and decodes with one vocabulary; safe to share between threads."""

    def __init__(self, backend: Backend, vocabulary: Vocabulary, frame: Frame) -> None:
        self._backend = backend
        self._vocabulary = vocabulary
        self._frame = frame
        self._lock = Lock()

    @property
    def vocab_size(self) -> int:
        """The number of tokens in the vocabulary; a model's embedding may be padded beyond it."""
        return len(self._vocabulary)

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text."""
        return self._frame.bos_id

    @property
    def eos_id(self) -> int | None:
        """The token that the vocabulary itself ends a text with, which chat templates call eos_token."""
        return self._frame.eos_id

    @property
    def eos_ids(self) -> frozenset[int]:
        """Every token that ends a generation."""
        return self._frame.eos_ids

    @property
    def add_bos(self) -> bool:
        """Whether encoding puts a token before the text."""
        return bool(self._frame.prefix)

    @property
    def add_eos(self) -> bool:
        """Whether encoding puts a token after the text."""
        return bool(self._frame.suffix)

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text.

        special: begin and end it as the vocabulary says, unless it already does.
        parse_special: control tokens spelled out in the text become those tokens instead of plain text.
        """
        ids = self._encode(_without_surrogates(text), parse_special) if text else []
        if not special:
            return ids
        prefix, suffix = self._frame.prefix, self._frame.suffix
        begun = tuple(ids[: len(prefix)]) == prefix
        ended = bool(suffix) and tuple(ids[-len(suffix) :]) == suffix
        return [*(() if begun else prefix), *ids, *(() if ended else suffix)]

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        with self._lock:
            self._backend.encode_special_tokens = not parse_special
            return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Return the text of token ids; bytes that are no UTF-8 become U+FFFD."""
        if skip_special:
            ids = (i for i in ids if not self.is_special(i))
        data = b"".join(map(self._vocabulary.token_bytes, ids))
        if self._frame.drop_space:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", "replace")

    def stream(self, *, skip_special: bool = False, continuing: bool = False) -> TextStream:
        """Return a decoder for ids that come one by one; continuing: they follow other text directly."""
        drop_space = self._frame.drop_space and not continuing
        token_bytes = self._plain_bytes if skip_special else self.token_bytes
        return TextStream(token_bytes, drop_space=drop_space)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the exact bytes a token stands for; nothing for ids beyond the vocabulary."""
        return self._vocabulary.token_bytes(token_id)

    def _plain_bytes(self, token_id: int) -> bytes:
        return b"" if self.is_special(token_id) else self.token_bytes(token_id)

    def token_text(self, token_id: int) -> str:
        """Return a token as the vocabulary spells it; nothing for ids beyond the vocabulary."""
        return self._vocabulary.texts[token_id] if 0 <= token_id < len(self._vocabulary) else ""

    def token_id(self, text: str) -> int | None:
        """Return the id of the token that is spelled exactly so."""
        return self._vocabulary.ids.get(text)

    def is_special(self, token_id: int) -> bool:
        """Whether a token is markup (control or unknown) rather than text."""
        return self._vocabulary.token_type(token_id) in (CONTROL, UNKNOWN)

    def is_ordinary(self, token_id: int) -> bool:
        """Whether a token is a piece that any text may hold, neither markup nor added by a user."""
        return self._vocabulary.token_type(token_id) in (NORMAL, BYTE)


def _without_surrogates(text: str) -> str:
    """Return the text with lone surrogates, which have no UTF-8 form, as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
