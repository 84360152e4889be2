"""Writes safetensors files piece by piece: only the tensors that are made together are in memory together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import InvalidRequest
from .new_files import NewFile

if TYPE_CHECKING:
    from torch import Tensor

CODES = {
    "f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "f8_e4m3": "F8_E4M3", "f8_e5m2": "F8_E5M2",
    "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8",
    "u64": "U64", "u32": "U32", "u16": "U16", "u8": "U8", "bool": "BOOL",
}  # fmt: skip
# Readers view the bytes as numbers, which must begin at a multiple of their size.
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A tensor to be written; `kind` is a plain type's name."""

    name: str
    kind: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class NewGroup:
    """Tensors that are made at once; `make` returns one for each entry, in order."""

    entries: tuple[NewEntry, ...]
    make: Callable[[], Iterable[Tensor]]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(entry.nbytes for entry in self.entries)


def divide(groups: Sequence[NewGroup], most: int) -> list[list[NewGroup]]:
    """Return the groups of each file, of at most so many bytes unless one group is larger, aligned ones first."""
    files: list[list[NewGroup]] = [[]]
    size = 0
    for group in sorted(groups, key=lambda group: group.nbytes % _ALIGNMENT != 0):
        if files[-1] and size + group.nbytes > most:
            files.append([])
            size = 0
        files[-1].append(group)
        size += group.nbytes
    return files


def header(groups: Sequence[NewGroup]) -> bytes:
    """Return what stands before the tensors of a file; raises InvalidRequest for a type that no file can hold."""
    said: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for entry in (entry for group in groups for entry in group.entries):
        if entry.kind not in CODES:
            raise InvalidRequest(f"the tensor {entry.name} cannot be {entry.kind} in a safetensors file")
        said[entry.name] = {
            "dtype": CODES[entry.kind],
            "shape": list(entry.shape),
            "data_offsets": [at, at + entry.nbytes],
        }
        at += entry.nbytes
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def write_file(file: NewFile, groups: Sequence[NewGroup], progress: Callable[[int], None]) -> None:
    """Write one file; progress is called with the bytes of each group. Raises DiskFull and CheckpointError."""
    import torch

    file.write(header(groups))
    for group in groups:
        for entry, tensor in zip(group.entries, group.make(), strict=True):
            flat = tensor.detach().contiguous().reshape(-1)
            data = flat.view(torch.uint8).cpu().numpy().data
            assert len(data) == entry.nbytes, f"{entry.name}: {len(data)} bytes instead of {entry.nbytes}"
            file.write(data)
        progress(group.nbytes)
