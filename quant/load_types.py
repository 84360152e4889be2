"""The types that a model can be quantized to while it is loaded: those of files, and those of bitsandbytes."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from ..errors import InvalidRequest
from .dtype import DTYPES, DType
from .file_types import ALIASES, FILE_TYPES, FileType, file_type

BITSANDBYTES: Final = ("nf4", "fp4", "int8")


def load_type(name: str) -> FileType | DType:
    """Return the type of this name, in any case; raise InvalidRequest with the nearest names."""
    wanted = name.strip().replace("-", "_")
    if wanted.lower() in BITSANDBYTES:
        return DTYPES[wanted.lower()]
    if wanted.upper() in {**FILE_TYPES, **ALIASES}:
        return file_type(wanted)
    known = [*BITSANDBYTES, *(kind.lower() for kind in (*FILE_TYPES, *ALIASES))]
    near = get_close_matches(wanted.lower(), known, n=3, cutoff=0.5)
    raise InvalidRequest(
        f"there is no type '{name}'",
        field="quantize",
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else f"{', '.join(BITSANDBYTES)}, or a type of llm quantize --list",
    )
