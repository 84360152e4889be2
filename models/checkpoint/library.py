"""Turns what the `tokenizers` library raises into our error."""

from __future__ import annotations

from types import TracebackType

from ...errors import TokenizerError


class LibraryErrors:
    """While this holds, a refusal of the library is a TokenizerError.

    The library raises bare Exception objects (exactly that class); its bindings add TypeError and ValueError.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is Exception or isinstance(error, TypeError | ValueError | OverflowError):
            reason = " ".join(str(error).split())[:200]
            hint = "the file may be damaged; fetch it again"
            raise TokenizerError(f"the tokenizer is broken: {reason}", hint=hint) from error
