"""Typed, checked reading of the `tokenizer.ggml.*` entries of a GGUF file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...errors import TokenizerError

_PREFIX = "tokenizer.ggml."


@dataclass(frozen=True, slots=True)
class Fields:
    """The metadata of one file; every entry of a wrong type is a TokenizerError that names it."""

    metadata: Mapping[str, object]

    def get(self, key: str) -> object:
        """Return an entry as it is, None where absent."""
        return self.metadata.get(_PREFIX + key)

    def text(self, key: str) -> str:
        """Return a string, empty where absent."""
        value = self.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise TokenizerError(f"{_PREFIX}{key} is not a string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return a truth value."""
        value = self.get(key)
        return default if value is None else bool(value)

    def token(self, key: str, size: int, default: int | None = None) -> int | None:
        """Return a token id; one outside the vocabulary counts as absent."""
        value = self.get(f"{key}_token_id")
        if isinstance(value, int) and 0 <= value < size:
            return value
        return default if default is not None and default < size else None

    def texts(self, key: str) -> list[str]:
        """Return a list of strings; raise TokenizerError where it is absent."""
        value = self._list(key)
        if value is None:
            raise TokenizerError(f"the file has no {_PREFIX}{key}")
        if not set(map(type, value)) <= {str}:
            raise TokenizerError(f"{_PREFIX}{key} is not a list of strings")
        return value  # type: ignore[return-value]

    def floats(self, key: str, count: int) -> list[float] | None:
        """Return `count` numbers, None where absent."""
        value = self._numbers(key, count)
        try:
            return None if value is None else list(map(float, value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise TokenizerError(f"{_PREFIX}{key} is not a list of numbers") from None

    def types(self, count: int) -> bytes | None:
        """Return the token types, None where the file has none."""
        value = self._numbers("token_type", count)
        try:
            return None if value is None else bytes(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise TokenizerError(f"{_PREFIX}token_type is not a list of token types") from None

    def _numbers(self, key: str, count: int) -> list[object] | None:
        value = self._list(key)
        if value is not None and len(value) < count:
            raise TokenizerError(f"{_PREFIX}{key} has {len(value)} entries for {count} tokens")
        return None if value is None else value[:count]

    def _list(self, key: str) -> list[object] | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TokenizerError(f"{_PREFIX}{key} is not a list")
        return value if isinstance(value, list) else list(value)
