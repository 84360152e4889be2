"""Opens what `llm quantize` reads: a GGUF file, a folder of safetensors, or a model of the store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequest

if TYPE_CHECKING:
    from ..models.checkpoint.base import Checkpoint
    from ..models.quantize_source import Source
    from ..registry.target import Target

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


@dataclass(frozen=True, slots=True)
class Opened:
    """The model, and where it was found."""

    target: Target
    checkpoint: Checkpoint
    source: Source

    @property
    def is_folder(self) -> bool:
        """Whether it has to be converted."""
        return self.checkpoint.format == "safetensors"

    def as_gguf(self) -> Checkpoint:
        """Return the model as the GGUF file that it is or would be, with GGUF's names."""
        if not self.is_folder:
            return self.checkpoint
        from ..models.convert.convert import convert
        from ..models.convert.preview import Preview

        converted = convert(self.checkpoint)
        return Preview(self.checkpoint.path, converted.metadata, converted.tensors)

    def files(self) -> list[Path]:
        """Return the files that hold the weights."""
        from ..models.checkpoint.gguf import gguf_parts

        path = self.target.path
        if path.is_dir():
            return [file for file in path.iterdir() if file.suffix in (".gguf", ".safetensors")]
        return gguf_parts(path)


@contextmanager
def open_source(model: str) -> Iterator[Opened]:
    """Find a model and open its headers; a folder of safetensors as what it will be in GGUF."""
    from ..models.checkpoint.open import open_checkpoint
    from ..models.quantize_source import checkpoint_source
    from ..registry.target import find_target

    target = find_target(model)
    with open_checkpoint(target.path) as checkpoint:
        source = checkpoint_source(checkpoint) if checkpoint.format == "gguf" else _converted(checkpoint)
        yield Opened(target, checkpoint, source)


def _converted(checkpoint: Checkpoint) -> Source:
    from ..models.convert.convert import convert
    from ..models.quantize_source import converted_source

    return converted_source(checkpoint.path, convert(checkpoint))


def check_target(opened: Opened, targets: list[Path]) -> None:
    """Raise InvalidRequest where a file to be written is one that is read, under whatever name."""
    for target in targets:
        for file in opened.files():
            if target.exists() and file.exists() and target.samefile(file):
                raise InvalidRequest(
                    f"{target} is the file that is read", field="target", hint="write to another file"
                )


def parse_size(text: str) -> int:
    """Read a size such as `5G`, `500MB` or `1.5GiB` in bytes; raise InvalidRequest."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?) ?([KMG]I?)?B?", text.strip().upper())
    if match is None or float(match[1]) <= 0:
        raise InvalidRequest(f"'{text}' is no size", field="size", hint="for example 5G or 500MB")
    return int(float(match[1]) * _UNITS[match[2] or ""])
