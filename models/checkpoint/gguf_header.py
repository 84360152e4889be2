"""The header of a GGUF file: key-value pairs, their arrays left packed until asked for, and tensor places."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from struct import Struct

from ...errors import CorruptFile, UnknownFormat
from ...quant.dtype import DType, dtype_by_ggml_id
from .base import TensorInfo
from .gguf_values import Verbatim

MAGIC = b"GGUF"
_MAX_DIMS = 4
_MAX_DEPTH = 4
_MAX_NAME = 65535
# Far above any real file: they keep a corrupt length in a large file from costing memory or minutes.
_MAX_STRING = 1 << 26
_MAX_ELEMENTS = 1 << 26
_MAX_ARRAYS = 1 << 16
_STRING, _ARRAY, _BOOL = 8, 9, 7
_U32, _U64 = Struct("<I"), Struct("<Q")
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d"}
_STRUCTS = {kind: Struct("<" + code) for kind, code in _SCALARS.items()}


@dataclass(frozen=True, slots=True)
class PackedArray:
    """Where an array's elements lie in the file, checked to be inside it."""

    kind: int
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """A tensor's description, its type, and its first byte counted from the start of the file."""

    info: TensorInfo
    kind: DType
    start: int


class GGUFMetadata(Mapping[str, object]):
    """The key-value pairs of a GGUF file; an array becomes a list when it is first looked up."""

    def __init__(self, path: Path, data: mmap | bytes) -> None:
        self._path = path
        self._data = data
        self._values: dict[str, object] = {}
        self._spans: dict[str, tuple[int, int, int]] = {}
        self._packed: dict[str, PackedArray] = {}

    def __getitem__(self, key: str) -> object:
        value = self._values[key]
        if isinstance(value, PackedArray):
            self._packed[key] = value
            value = Reader(self._path, self._data).unpack_array(value, key)
            self._values[key] = value
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def pack(self) -> None:
        """Let go of unpacked arrays; they are unpacked again when they are next looked up."""
        self._values.update(self._packed)

    def verbatim(self, key: str) -> Verbatim:
        """Return a value's type and bytes as they stand in the file, to be copied."""
        kind, start, end = self._spans[key]
        return Verbatim(kind, self._data[start:end])

    def add(self, key: str, value: object, span: tuple[int, int, int]) -> None:
        """Set a pair while the header is being read; raise CorruptFile if the key was there.

        span: the value's type, its first byte and the one after its last.
        """
        if key in self._values:
            raise Reader(self._path, self._data).corrupt(f"the metadata key {key!r} appears twice")
        self._values[key] = value
        self._spans[key] = span


@dataclass(frozen=True, slots=True)
class Header:
    """Everything that stands before the tensor data."""

    metadata: GGUFMetadata
    tensors: dict[str, TensorPlace]


class CutShort(CorruptFile):
    """The bytes end before the header does; it needs `needed` of the file's first bytes, or more."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message, hint="download or convert it again")
        self.needed = needed


class Reader:
    """A cursor over a GGUF header that never reads past the end of the file."""

    def __init__(self, path: Path, data: mmap | bytes) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = 0

    def corrupt(self, what: str) -> CorruptFile:
        """Make the error for this file."""
        return CorruptFile(f"{self.path}: corrupt GGUF file: {what}", hint="download or convert it again")

    def cut_short(self, what: str, needed: int) -> CutShort:
        """Make the error for a file that ends too soon."""
        return CutShort(f"{self.path}: corrupt GGUF file: {what}", needed)

    def need(self, count: int, what: str) -> None:
        """Raise CorruptFile unless `count` more bytes are there."""
        if count > self.size - self.at:
            left = self.size - self.at
            raise self.cut_short(
                f"{what} at byte {self.at} needs {count} bytes, the file has {left} more", self.at + count
            )

    def number(self, layout: Struct, what: str) -> int:
        """Read one unsigned integer."""
        self.need(layout.size, what)
        value: int = layout.unpack_from(self.data, self.at)[0]
        self.at += layout.size
        return value

    def name(self, what: str) -> str:
        """Read a key or a tensor's name, which must be UTF-8."""
        try:
            return self._raw_string(what, _MAX_NAME).decode("utf-8")
        except UnicodeDecodeError:
            raise self.corrupt(f"{what} is not UTF-8") from None

    def _raw_string(self, what: str, limit: int) -> bytes:
        length = self.number(_U64, f"the length of {what}")
        if length > limit:
            raise self.corrupt(f"{what} claims {length} bytes")
        self.need(length, what)
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw

    def value(self, kind: int, what: str) -> object:
        """Read a value of this type; an array is checked and skipped, to be unpacked later."""
        if kind == _STRING:
            return self._raw_string(what, _MAX_STRING).decode("utf-8", "replace")
        if kind == _ARRAY:
            packed = self._packed_array(what)
            self._skip(packed, what, 1)
            return packed
        layout = _STRUCTS.get(kind)
        if layout is None:
            raise self.corrupt(f"{what} has the unknown type {kind}")
        self.need(layout.size, what)
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return bool(value) if kind == _BOOL else value

    def _packed_array(self, what: str) -> PackedArray:
        kind = self.number(_U32, what)
        count = self.number(_U64, what)
        if count > (_MAX_ARRAYS if kind == _ARRAY else _MAX_ELEMENTS):
            raise self.corrupt(f"{what} claims {count} elements")
        return PackedArray(kind, count, self.at)

    def _skip(self, packed: PackedArray, what: str, depth: int) -> None:
        if packed.kind == _STRING:
            self.need(packed.count * 8, what)
            self.at = self._skip_strings(packed.count, what)
        elif packed.kind == _ARRAY:
            if depth == _MAX_DEPTH:
                raise self.corrupt(f"{what} nests arrays more than {_MAX_DEPTH} deep")
            self.need(packed.count * 12, what)
            for _ in range(packed.count):
                self._skip(self._packed_array(what), what, depth + 1)
        elif packed.kind in _STRUCTS:
            nbytes = packed.count * _STRUCTS[packed.kind].size
            self.need(nbytes, what)
            self.at += nbytes
        else:
            raise self.corrupt(f"{what} is an array of the unknown type {packed.kind}")

    def _skip_strings(self, count: int, what: str) -> int:
        data, at, last, unpack = self.data, self.at, self.size - 8, _U64.unpack_from
        for _ in range(count):
            if at > last:
                raise self.cut_short(f"{what} runs past the end of the file", at + 8)
            at += 8 + unpack(data, at)[0]
        if at > self.size:
            raise self.cut_short(f"{what} runs past the end of the file", at)
        return at

    def unpack_array(self, packed: PackedArray, what: str) -> list[object]:
        """Turn a checked array into a list."""
        self.at = packed.start
        if packed.kind == _STRING:
            return self._strings(packed.count)
        if packed.kind == _ARRAY:
            return [self.unpack_array(self._packed_array(what), what) for _ in range(packed.count)]
        size = _STRUCTS[packed.kind].size * packed.count
        numbers: array[float] = array(_SCALARS[packed.kind])
        numbers.frombytes(self.data[self.at : self.at + size])
        self.at += size
        if sys.byteorder == "big":
            numbers.byteswap()
        return [bool(n) for n in numbers] if packed.kind == _BOOL else [*numbers]

    def _strings(self, count: int) -> list[object]:
        data, at, unpack = self.data, self.at, _U64.unpack_from
        found: list[object] = []
        add = found.append
        for _ in range(count):
            start = at + 8
            at = start + unpack(data, at)[0]
            add(data[start:at].decode("utf-8", "replace"))
        self.at = at
        return found


def read_header(path: Path, data: mmap | bytes) -> Header:
    """Read and check everything before the tensor data; raise UnknownFormat or CorruptFile."""
    reader = Reader(path, data)
    metadata, entries = _read_all(reader)
    return Header(metadata, _place_tensors(reader, entries, _alignment(reader, metadata)))


def header_bytes(path: Path, start: bytes, size: int) -> int:
    """Return how many of a file's first bytes its header takes, given some of them; if it takes more, a guess.

    size: of the whole file. Raises UnknownFormat or CorruptFile where more bytes would not help.
    """
    reader = Reader(path, start)
    try:
        _read_all(reader)
    except CutShort as cut:
        if cut.needed > size:
            raise
        return min(size, max(cut.needed, 2 * len(start)))
    return reader.at


def _read_all(reader: Reader) -> tuple[GGUFMetadata, list[_Entry]]:
    """Read the pairs and the descriptions of tensors."""
    _check_version(reader)
    num_tensors = reader.number(_U64, "the number of tensors")
    num_pairs = reader.number(_U64, "the number of metadata pairs")
    # The shortest pair takes 13 bytes, the shortest tensor entry 24.
    reader.need(num_pairs * 13 + num_tensors * 24, f"{num_pairs} metadata pairs and {num_tensors} tensors")
    metadata = GGUFMetadata(reader.path, reader.data)
    for _ in range(num_pairs):
        key = reader.name("a metadata key")
        kind = reader.number(_U32, f"the type of {key!r}")
        start = reader.at
        value = reader.value(kind, f"the metadata value {key!r}")
        metadata.add(key, value, (kind, start, reader.at))
    return metadata, _tensor_entries(reader, num_tensors)


def _check_version(reader: Reader) -> None:
    if reader.data[:4] != MAGIC:
        raise UnknownFormat(f"{reader.path}: not a GGUF file")
    reader.at = 4
    version = reader.number(_U32, "the version")
    if version in (2, 3):
        return
    if version & 0xFFFF == 0 and version:
        raise UnknownFormat(
            f"{reader.path}: a big-endian GGUF file; only little-endian ones can be read",
            hint="gguf-convert-endian FILE little",
        )
    raise UnknownFormat(
        f"{reader.path}: GGUF version {version}; versions 2 and 3 can be read",
        hint="convert the model again" if version == 1 else "a newer mull may know it",
    )


def _alignment(reader: Reader, metadata: GGUFMetadata) -> int:
    value = metadata.get("general.alignment", 32)
    if not isinstance(value, int) or value < 1 or value & (value - 1):
        raise reader.corrupt(f"general.alignment is {value!r}, not a power of two")
    return value


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int


def _tensor_entries(reader: Reader, count: int) -> list[_Entry]:
    entries: dict[str, _Entry] = {}
    for _ in range(count):
        entry = _tensor_entry(reader)
        if entry.name in entries:
            raise reader.corrupt(f"the tensor {entry.name!r} appears twice")
        entries[entry.name] = entry
    return list(entries.values())


def _tensor_entry(reader: Reader) -> _Entry:
    name = reader.name("a tensor name")
    num_dims = reader.number(_U32, f"the shape of {name!r}")
    if num_dims > _MAX_DIMS:
        raise reader.corrupt(f"the tensor {name!r} has {num_dims} dimensions, more than {_MAX_DIMS}")
    dims = [reader.number(_U64, f"the shape of {name!r}") for _ in range(num_dims)]
    type_id = reader.number(_U32, f"the type of {name!r}")
    offset = reader.number(_U64, f"the offset of {name!r}")
    return _Entry(name, tuple(reversed(dims)), type_id, offset)


def _place_tensors(reader: Reader, entries: list[_Entry], alignment: int) -> dict[str, TensorPlace]:
    data_start = -(-reader.at // alignment) * alignment
    places: dict[str, TensorPlace] = {}
    end = 0
    for entry in entries:
        place = _place(reader, entry, data_start, alignment)
        places[entry.name] = place
        end = max(end, place.start + place.info.nbytes)
    if end > reader.size:
        raise CorruptFile(
            f"{reader.path}: the file is truncated: {end - reader.size} of {end} bytes are missing",
            hint="download it again",
        )
    return places


def _place(reader: Reader, entry: _Entry, data_start: int, alignment: int) -> TensorPlace:
    if 0 in entry.shape or math.prod(entry.shape) >= 1 << 63:
        raise reader.corrupt(f"the tensor {entry.name!r} has the impossible shape {entry.shape}")
    kind = dtype_by_ggml_id(entry.type_id)
    if kind is None:
        raise UnknownFormat(
            f"{reader.path}: the tensor {entry.name!r} has the unknown type {entry.type_id}",
            hint="convert the model to a common type, such as Q4_K_M or Q8_0",
        )
    if (entry.shape[-1] if entry.shape else 1) % kind.block:
        raise reader.corrupt(
            f"the tensor {entry.name!r} of type {kind.name} has shape {entry.shape}, "
            f"whose rows are no multiple of {kind.block}"
        )
    if entry.offset % alignment:
        raise reader.corrupt(f"the offset {entry.offset} of {entry.name!r} is not aligned to {alignment}")
    info = TensorInfo(entry.name, kind.name, entry.shape, kind.shape_bytes(entry.shape))
    return TensorPlace(info, kind, data_start + entry.offset)
