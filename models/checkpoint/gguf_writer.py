"""Writes GGUF files, whole or split, from tensors that are made one after the other as their turn comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ...errors import InvalidRequest
from ...quant.dtype import DType
from .gguf_header import MAGIC
from .gguf_values import Typed, Value, ValueType, Verbatim, encode_pair, encode_string
from .new_files import Buffer, NewFile, NewFiles

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = 3
_ALIGNMENT = 32
_MAX_PARTS = 65535
_HEAD = Struct("<4sIQQ")
_U32, _U64 = Struct("<I"), Struct("<Q")
_PART = re.compile(r"(.*)-\d{5}-of-\d{5}(?:\.gguf)?", re.DOTALL)
SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")

Progress = Callable[[int, int], None]
"""Called with the bytes of tensors written so far and in all."""


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor to write. `make` is called when its turn comes and yields its bytes, in pieces of any size.

    A piece is written while the next one is made, and must not change meanwhile.
    shape: the outermost dimension first. part: the file of a split model that it belongs into, counted
    from 0; None: as `write_gguf` divides them.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    make: Callable[[], Iterator[Buffer | Tensor]]
    part: int | None = None

    @property
    def nbytes(self) -> int:
        """The bytes that `make` must yield in all."""
        return self.dtype.shape_bytes(self.shape)


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of the set: its encoded header and its tensors."""

    header: bytes
    tensors: tuple[NewTensor, ...]
    alignment: int

    @property
    def nbytes(self) -> int:
        return len(self.header) + sum(_padded(tensor.nbytes, self.alignment) for tensor in self.tensors)


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Sequence[NewTensor],
    *,
    split_max_size: int | None = None,
    split_max_tensors: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write a GGUF model and return its files: `path`, or `<stem>-00001-of-0000N.gguf` and on if it is split.

    split_max_size: bytes of tensors in one file. Either the whole model stands under its names
    afterwards, on the disk, or nothing has changed. Raises DiskFull, before starting if the room is
    known to be too small, and CheckpointError where the folder cannot be written.
    """
    groups = _divide(tensors, split_max_size, split_max_tensors)
    parts = _parts(metadata, groups)
    nbytes = sum(part.nbytes for part in parts)
    total, done = sum(tensor.nbytes for tensor in tensors), 0
    with NewFiles(part_paths(path, len(parts)), nbytes) as files, _Writer() as writer:
        for part in parts:
            file = files.create()
            writer.write(file, part.header)
            for tensor in part.tensors:
                for count in _write_tensor(writer, file, tensor, part.alignment):
                    done += count
                    if progress is not None:
                        progress(done, total)
        writer.finish()
        return files.publish()


class _Writer:
    """Writes a piece in a thread of its own while the next one is made; at most one waits."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "write")
        self._last: Future[None] | None = None

    def write(self, file: NewFile, data: Buffer) -> None:
        """Hand over a piece; raises what went wrong with the one before."""
        self.finish()
        self._last = self._pool.submit(file.write, data)

    def finish(self) -> None:
        """Wait until everything is written."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def gguf_paths(
    path: Path,
    tensors: Sequence[NewTensor],
    *,
    split_max_size: int | None = None,
    split_max_tensors: int | None = None,
) -> list[Path]:
    """Return the files that `write_gguf` would write."""
    return part_paths(path, len(_divide(tensors, split_max_size, split_max_tensors)))


def gguf_nbytes(
    metadata: Mapping[str, Value],
    tensors: Sequence[NewTensor],
    *,
    split_max_size: int | None = None,
    split_max_tensors: int | None = None,
) -> int:
    """Return the bytes of all files that `write_gguf` would write, headers and padding included."""
    parts = _parts(metadata, _divide(tensors, split_max_size, split_max_tensors))
    return sum(part.nbytes for part in parts)


def part_paths(path: Path, count: int) -> list[Path]:
    """Return the names of a model's files, as llama.cpp names the parts of one that is split."""
    if count == 1:
        return [path]
    named = _PART.fullmatch(path.name)
    stem = named[1] if named else path.name.removesuffix(".gguf")
    return [path.with_name(f"{stem}-{i + 1:05d}-of-{count:05d}.gguf") for i in range(count)]


def _write_tensor(writer: _Writer, file: NewFile, tensor: NewTensor, alignment: int) -> Iterator[int]:
    """Write one tensor and its padding; yield the bytes of each piece."""
    written = 0
    for piece in tensor.make():
        data = _bytes_of(piece)
        written += len(data)
        writer.write(file, data)
        yield len(data)
    assert written == tensor.nbytes, f"{tensor.name}: {written} bytes were made instead of {tensor.nbytes}"
    if padding := _padded(written, alignment) - written:
        writer.write(file, bytes(padding))


def _bytes_of(piece: Buffer | Tensor) -> memoryview:
    """Look at a piece's bytes."""
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return memoryview(piece).cast("B")
    import torch

    flat = piece.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _divide(
    tensors: Sequence[NewTensor], max_size: int | None, max_tensors: int | None
) -> list[list[NewTensor]]:
    """Return the tensors of each file, in order; a file holds at least one."""
    _check(tensors)
    if any(tensor.part is not None for tensor in tensors):
        count = max(tensor.part or 0 for tensor in tensors) + 1
        return [[tensor for tensor in tensors if (tensor.part or 0) == i] for i in range(count)]
    for limit in (max_size, max_tensors):
        if limit is not None and limit < 1:
            raise InvalidRequest("a part of a split model must have room for something")
    groups: list[list[NewTensor]] = [[]]
    size = 0
    for tensor in tensors:
        full = max_tensors is not None and len(groups[-1]) >= max_tensors
        if groups[-1] and (full or (max_size is not None and size + tensor.nbytes > max_size)):
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.nbytes
    if len(groups) > _MAX_PARTS:
        raise InvalidRequest(f"the model would be split into {len(groups)} files", hint="allow larger parts")
    return groups


def _check(tensors: Sequence[NewTensor]) -> None:
    names: set[str] = set()
    for tensor in tensors:
        if tensor.dtype.ggml_id is None:
            raise InvalidRequest(f"the tensor {tensor.name} cannot be {tensor.dtype.name} in a GGUF file")
        if tensor.name in names:
            raise InvalidRequest(f"the tensor {tensor.name} would be written twice")
        names.add(tensor.name)


def _parts(metadata: Mapping[str, Value], groups: list[list[NewTensor]]) -> list[_Part]:
    own = {key: value for key, value in metadata.items() if key not in SPLIT_KEYS}
    alignment = gguf_alignment(own)
    if len(groups) == 1:
        return [_Part(_header(own, groups[0], alignment), tuple(groups[0]), alignment)]
    parts = []
    total = sum(len(group) for group in groups)
    for number, group in enumerate(groups):
        pairs: dict[str, Value] = dict(own) if number == 0 else {}
        if number and alignment != _ALIGNMENT:
            pairs["general.alignment"] = Typed(alignment, ValueType.UINT32)
        pairs["split.no"] = Typed(number, ValueType.UINT16)
        pairs["split.count"] = Typed(len(groups), ValueType.UINT16)
        pairs["split.tensors.count"] = Typed(total, ValueType.INT32)
        parts.append(_Part(_header(pairs, group, alignment), tuple(group), alignment))
    return parts


def gguf_alignment(metadata: Mapping[str, Value]) -> int:
    """Return what each tensor's bytes are padded to a multiple of; raise InvalidRequest for what no file may have."""
    value = metadata.get("general.alignment", _ALIGNMENT)
    if isinstance(value, Verbatim):
        number: object = int.from_bytes(value.data, "little")
    else:
        number = value.value if isinstance(value, Typed) else value
    if not isinstance(number, int) or number < 8 or number & (number - 1):
        raise InvalidRequest(f"general.alignment must be a power of two of at least 8, not {number!r}")
    return number


def _header(pairs: Mapping[str, Value], tensors: Sequence[NewTensor], alignment: int) -> bytes:
    """Return everything that stands before the tensor data, padded."""
    out = bytearray(_HEAD.pack(MAGIC, _VERSION, len(tensors), len(pairs)))
    for key, value in pairs.items():
        out += encode_pair(key, value)
    offset = 0
    for tensor in tensors:
        out += encode_string(tensor.name) + _U32.pack(len(tensor.shape))
        out += b"".join(_U64.pack(size) for size in reversed(tensor.shape))
        out += _U32.pack(tensor.dtype.ggml_id or 0) + _U64.pack(offset)
        offset += _padded(tensor.nbytes, alignment)
    return bytes(out) + bytes(_padded(len(out), alignment) - len(out))


def _padded(nbytes: int, alignment: int) -> int:
    return -(-nbytes // alignment) * alignment
