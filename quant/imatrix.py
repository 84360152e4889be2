"""Importance matrices: how strongly each input column of each weight matrix is used, in llama.cpp's files.

A GGUF file holds, for each matrix `name`, the tensors `name.in_sum2` [experts, columns], sums of squared inputs, and
`name.counts` [experts, 1], over how many tokens they were taken. The older .dat files hold means times chunks.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import CheckpointError, CorruptFile, DiskFull, ModelNotFound, ShapeMismatch, UnknownFormat

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float32]]
    Counts = np.ndarray[Any, np.dtype[np.int64]]

CHUNK_SIZE = 512
"""Tokens in a chunk, where nothing else is said."""

_SUMS, _COUNTS = ".in_sum2", ".counts"
_DATASETS, _CHUNKS, _CHUNK = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
# llama.cpp looks for importance under this name, but never insists on its size.
_EMBEDDING = "token_embd.weight"
_LONGEST_NAME, _MOST_TOKENS = 1 << 12, 1 << 53


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One matrix: sums of squared inputs, float32 [n, columns], and tokens, int64 [n]; n is 1 but for experts."""

    sums: Floats
    counts: Counts

    def mean(self) -> Floats:
        """Return the mean squared inputs [n, columns], ones for an expert that no token reached."""
        counts = self.counts.astype(np.float32)[:, None]
        return np.where(counts > 0, self.sums / np.maximum(counts, np.float32(1)), np.float32(1))


@dataclass(frozen=True, slots=True, eq=False)
class ImportanceMatrix:
    """The entries by the names of GGUF tensors, and what they were measured on."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...] = ()
    chunk_count: int = 0
    chunk_size: int = CHUNK_SIZE

    def importance(self, name: str) -> Floats | None:
        """Return the weights of a matrix's columns, float32 [n, columns], as llama-quantize takes them."""
        entry = self.entries.get(name)
        return None if entry is None else entry.mean()

    def for_tensor(self, name: str, shape: Sequence[int]) -> Floats | None:
        """Return the weights of the columns of a tensor [..., rows, columns], float32 [experts, columns].

        None where nothing was measured. Raises ShapeMismatch if the matrix is of another model.
        """
        found = self.importance(name)
        if found is None:
            return None
        experts = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
        if found.size != experts * shape[-1]:
            if name == _EMBEDDING:
                return None
            raise ShapeMismatch(
                f"the importance matrix has {found.size} columns for '{name}', and the model {experts * shape[-1]}",
                hint="it was measured on another model: llm imatrix makes one",
            )
        return found.reshape(experts, shape[-1])

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Raise ShapeMismatch unless the matrix can be of a model with these tensors (shapes by GGUF names)."""
        common = [name for name in self.entries if name in shapes]
        if not common:
            first = next(iter(self.entries))
            raise ShapeMismatch(
                f"the importance matrix names no tensor of the model; its first is '{first}'",
                hint="it was measured on another model: llm imatrix makes one",
            )
        for name in common:
            self.for_tensor(name, shapes[name])

    @classmethod
    def read(cls, path: Path, chunk_size: int = CHUNK_SIZE) -> ImportanceMatrix:
        """Read a file of llama-imatrix or of ours, GGUF or .dat; raises CorruptFile, UnknownFormat, ModelNotFound.

        chunk_size: tokens in a chunk of a .dat file, which does not say.
        """
        try:
            with path.open("rb") as file:
                is_gguf = file.read(4) == b"GGUF"
                file.seek(0)
                found = _read_gguf(path) if is_gguf else _read_dat(file, path, chunk_size)
        except FileNotFoundError:
            raise ModelNotFound(f"{path}: no such file") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
        for name, entry in found.entries.items():
            if not np.isfinite(entry.sums).all():
                raise CorruptFile(
                    f"{path}: the importance of '{name}' is not finite", hint="measure it again"
                )
        return found

    def write(self, path: Path) -> None:
        """Write the GGUF file that llama-imatrix would write, whole or not at all; raises DiskFull."""
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._write(partial)
            os.replace(partial, path)
        except OSError as error:
            # numpy tells of a short write without a number.
            if error.errno in (None, errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"{path}: no space left", hint="free some space, or choose another --output"
                ) from None
            raise CheckpointError(
                f"{path}: cannot be written: {(error.strerror or str(error)).lower()}"
            ) from None
        finally:
            partial.unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        from gguf import GGUFValueType, GGUFWriter

        writer = GGUFWriter(None, "imatrix")
        writer.kv_data[0].clear()  # these files name no architecture
        writer.add_string("general.type", "imatrix")
        # The package cannot write an empty list, and llama-quantize wants the key.
        datasets = [name.encode() for name in self.datasets] or [b""]
        writer.add_key_value(_DATASETS, datasets, GGUFValueType.ARRAY, GGUFValueType.STRING)
        writer.add_uint32(_CHUNKS, self.chunk_count)
        writer.add_uint32(_CHUNK, self.chunk_size)
        for name in sorted(self.entries):
            entry = self.entries[name]
            # ggml leaves out dimensions of 1 at the end.
            one = len(entry.counts) == 1
            writer.add_tensor(name + _SUMS, entry.sums[0] if one else entry.sums)
            counts = entry.counts.astype(np.float32)
            writer.add_tensor(name + _COUNTS, counts if one else counts[:, None])
        try:
            writer.write_header_to_file(path)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            for file in writer.fout or ():
                file.flush()
                os.fsync(file.fileno())
        finally:
            writer.close()


def merge(matrices: Iterable[ImportanceMatrix], chunk_size: int = CHUNK_SIZE) -> ImportanceMatrix:
    """Add matrices of one model up, as llama-imatrix does; raises ShapeMismatch for those of different models."""
    entries: dict[str, Entry] = {}
    datasets: list[str] = []
    for matrix in matrices:
        datasets += matrix.datasets
        for name, entry in matrix.entries.items():
            entries[name] = _sum(name, entries[name], entry) if name in entries else entry
    most = max((int(entry.counts.max()) for entry in entries.values()), default=0)
    return ImportanceMatrix(entries, tuple(datasets), most // chunk_size, chunk_size)


def _sum(name: str, a: Entry, b: Entry) -> Entry:
    """Add two entries; a single count stands for every expert."""
    experts = max(len(a.counts), len(b.counts))
    sizes_fit = a.sums.size == b.sums.size and not a.sums.size % experts
    if not sizes_fit or any(len(e.counts) not in (1, experts) for e in (a, b)):
        raise ShapeMismatch(
            f"'{name}' has {a.sums.size} columns in one importance matrix and {b.sums.size} in another",
            hint="only matrices of one model can be merged",
        )
    shape = (experts, a.sums.size // experts)
    counts = np.broadcast_to(a.counts, experts) + np.broadcast_to(b.counts, experts)
    return Entry(a.sums.reshape(shape) + b.sums.reshape(shape), counts)


def _read_gguf(path: Path) -> ImportanceMatrix:
    """Read sums and counts; a model's file, and one whose parts contradict each other, is refused."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        keys = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise CorruptFile(f"{path}: corrupt GGUF file: {error}", hint="measure it again") from None
    names = sorted({name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)})
    absent = [key for key in (_DATASETS, _CHUNKS, _CHUNK) if key not in keys]
    if not names or absent:
        what = f"lacks {absent[0]}" if absent else "holds no sums"
        raise UnknownFormat(
            f"{path}: a GGUF file, but no importance matrix: it {what}", hint="llm imatrix makes one"
        )
    entries = {name: _entry(path, name, tensors) for name in names}
    datasets, chunks, size = keys[_DATASETS], keys[_CHUNKS], keys[_CHUNK]
    texts = tuple(str(name) for name in datasets if name) if isinstance(datasets, list) else ()
    return ImportanceMatrix(entries, texts, _whole(chunks), _whole(size) or CHUNK_SIZE)


def _entry(path: Path, name: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Entry:
    sums, counts = tensors[name + _SUMS], tensors.get(name + _COUNTS)
    if counts is None:
        raise CorruptFile(f"{path}: '{name}' has sums, but no counts")
    if sums.dtype != np.float32 or counts.dtype != np.float32:
        raise CorruptFile(f"{path}: sums and counts of '{name}' are not float32")
    if not counts.size or not sums.size or sums.size % counts.size:
        raise CorruptFile(f"{path}: '{name}' has {sums.size} sums and {counts.size} counts")
    if not ((counts >= 0) & (counts <= _MOST_TOKENS)).all():
        raise CorruptFile(f"{path}: the counts of '{name}' are no numbers of tokens")
    return Entry(sums.reshape(counts.size, -1), np.rint(counts.ravel()).astype(np.int64))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _read_dat(file: BinaryIO, path: Path, chunk_size: int) -> ImportanceMatrix:
    """Read the older format: names, numbers of chunks n, and n · means; then all chunks and the text's name."""
    size = path.stat().st_size

    def number() -> int:
        data = file.read(4)
        if len(data) < 4:
            raise UnknownFormat(f"{path}: neither a GGUF file nor a .dat file of llama-imatrix")
        value: int = struct.unpack("<i", data)[0]
        return value

    entries: dict[str, Entry] = {}
    for _ in range(max(1, number())):
        length = number()
        name = file.read(length) if 0 < length <= _LONGEST_NAME else b""
        chunks, count = number(), number()
        if not name.isascii() or not name or count < 1 or 4 * count > size - file.tell():
            raise UnknownFormat(f"{path}: neither a GGUF file nor a .dat file of llama-imatrix")
        sums = np.frombuffer(file.read(4 * count), dtype="<f4").astype(np.float32)
        tokens = np.array([max(chunks, 1) * chunk_size], dtype=np.int64)
        with np.errstate(over="ignore"):  # what is not finite is told of later
            entries[name.decode()] = Entry(sums[None] * np.float32(chunk_size), tokens)
    end = file.read()
    datasets: tuple[str, ...] = ()
    chunk_count = struct.unpack("<i", end[:4])[0] if len(end) >= 4 else 0
    if len(end) > 8:
        datasets = (end[8:].decode("utf-8", "replace"),)
    return ImportanceMatrix(entries, datasets, max(0, chunk_count), chunk_size)
