"""Hugging Face folders: .safetensors files, config.json and what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard

from ...errors import CorruptFile, MissingTensor, ModelNotFound, UnknownFormat
from ...quant.dtype import DType, dtype
from .base import Checkpoint, TensorInfo
from .bnb import PackedMatrix, find_packed
from .mapping import MappedFile

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.qtensor import QTensor

_INDEX = "model.safetensors.index.json"
_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_JSON = 100_000_000
_AGAIN = "download it again"
_KINDS = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "f8_e4m3", "F8_E5M2": "f8_e5m2",
    "I64": "i64", "I32": "i32", "I16": "i16", "I8": "i8",
    "U64": "u64", "U32": "u32", "U16": "u16", "U8": "u8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    info: TensorInfo
    kind: DType
    file: int
    start: int


class SafetensorsCheckpoint(Checkpoint):
    """A folder as Hugging Face writes it, or one .safetensors file in such a folder."""

    format: Literal["gguf", "safetensors"] = "safetensors"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path if path.is_dir() else path.parent
        self._files: list[MappedFile] = []
        self._config = read_json(self._folder / "config.json")
        self._generation = read_json(self._folder / "generation_config.json", optional=True)
        self._places: dict[str, _Place] = {}
        self._infos: dict[str, TensorInfo] = {}
        self._packed: dict[str, PackedMatrix] = {}
        try:
            self._read_files()
            self._describe()
        except BaseException:
            self.close()
            raise

    def _read_files(self) -> None:
        index = (self._folder / _INDEX).is_file()
        if self.path.is_file() and not (index and "-of-" in self.path.name):
            self._add_file(self.path)
        elif index:
            self._read_index(self._folder / _INDEX)
        elif (self._folder / "model.safetensors").is_file():
            self._add_file(self._folder / "model.safetensors")
        else:
            self._read_unnamed()

    def _describe(self) -> None:
        """List the tensors; those that make up one matrix stand under its name."""
        self._infos = {name: place.info for name, place in self._places.items()}
        for matrix in find_packed(self._infos, self._bytes):
            self._packed[matrix.info.name] = matrix
        for name, matrix in self._packed.items():
            self._infos[name] = matrix.info
            for part in matrix.beside:
                self._infos.pop(part, None)

    def _bytes(self, name: str) -> bytes:
        place = self._places[name]
        return self._files[place.file].content()[place.start : place.start + place.info.nbytes]

    def _read_unnamed(self) -> None:
        found = sorted(self._folder.glob("*.safetensors"))
        if any("-of-" in file.name for file in found):
            raise ModelNotFound(f"{self._folder / _INDEX}: missing, though the model has several files")
        if len(found) != 1:
            raise UnknownFormat(
                f"{self.path}: {len(found)} .safetensors files, none of them model.safetensors",
                hint="name the file to open",
            )
        self._add_file(found[0])

    def _read_index(self, index: Path) -> None:
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(_is_file_name(name) for name in weight_map.values()):
            raise CorruptFile(f"{index}: weight_map does not name a file for each tensor")
        for name in sorted(set(weight_map.values())):
            if not (self._folder / name).is_file():
                raise ModelNotFound(f"{self._folder / name}: this part of the model is missing", hint=_AGAIN)
            self._add_file(self._folder / name)
        for tensor, name in weight_map.items():
            place = self._places.get(tensor)
            if place is None or self._files[place.file].path.name != name:
                raise CorruptFile(f"{index}: says that {name} holds the tensor {tensor!r}, but it does not")

    def _add_file(self, path: Path) -> None:
        number = len(self._files)
        file = MappedFile(path)
        self._files.append(file)
        header, data_start = _read_header(file)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if name in self._places:
                other = self._files[self._places[name].file].path.name
                raise CorruptFile(f"{path}: the tensor {name!r} is in {other} too")
            self._places[name] = _place(file, name, entry, number, data_start)

    @property
    def architecture(self) -> str:
        """`model_type` of config.json; raise CorruptFile if it is absent."""
        value = self._config.get("model_type")
        if not isinstance(value, str) or not value:
            raise CorruptFile(f"{self._folder / 'config.json'}: names no model_type")
        return value

    @property
    def metadata(self) -> Mapping[str, object]:
        """Empty: the files' metadata says nothing about the model."""
        return {}

    @property
    def config(self) -> dict[str, object]:
        """config.json, as it is."""
        return self._config

    @property
    def generation(self) -> dict[str, object]:
        """generation_config.json, as it is; empty if absent."""
        return self._generation

    @property
    def chat_template(self) -> str | None:
        """The template in chat_template.jinja, chat_template.json or tokenizer_config.json."""
        return _read_template(self._folder)[1]

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's description by name, in file order."""
        return self._infos

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Return a tensor as stored; on the CPU its memory is the mapped file."""
        if name not in self._infos:
            raise MissingTensor(f"{self.path}: there is no tensor {name!r}")

        def stored(part: str) -> QTensor:
            place = self._places[part]
            return self._files[place.file].tensor(place.start, place.kind, place.info.shape, device)

        packed = self._packed.get(name)
        return packed.assemble(lambda part: stored(part).parts[0]) if packed else stored(name)

    def forget(self, tensor: Tensor) -> None:
        """Let go of the pages of our files that a tensor lies in, if it does; they come back when they are read."""
        for file in self._files:
            file.forget(tensor)

    def holds(self, tensor: Tensor) -> bool:
        """Tell whether a tensor lies in the mapping of our files."""
        return any(file.span(tensor) for file in self._files)

    def close(self) -> None:
        """Let go of the files; tensors already loaded stay valid."""
        for file in self._files:
            file.close()


def template_file(path: Path) -> str | None:
    """Return the name of the file that the chat template of a model comes from; path: its folder, or a file there."""
    return _read_template(path if path.is_dir() else path.parent)[0]


def _read_template(folder: Path) -> tuple[str | None, str | None]:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.name, _read_text(file)
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _pick_template(read_json(folder / name, optional=True).get("chat_template"))
        if template is not None:
            return name, template
    return None, None


def read_json(path: Path, *, optional: bool = False) -> dict[str, object]:
    """Read a JSON object from a file; {} if it is absent and optional, one of our errors if it is broken."""
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CorruptFile(f"{path}: not a JSON object")
    return value


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise CorruptFile(f"{path}: larger than any file of its kind")
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ModelNotFound(f"{path}: no such file", hint="download the whole folder") from None
    except OSError as error:
        raise CorruptFile(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CorruptFile(f"{path}: not UTF-8 text") from None


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "/" not in name and "\\" not in name and "\0" not in name


def _pick_template(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    entries = [entry for entry in value if isinstance(entry, dict)]
    named = {str(entry.get("name")): entry.get("template") for entry in entries}
    for name in ("default", "tool_use"):
        template = named.get(name)
        if isinstance(template, str):
            return template
    return None


def _read_header(file: MappedFile) -> tuple[dict[str, object], int]:
    """Return the JSON header and where the data begins: 8 bytes of length, the header, the data."""
    path, size = file.path, file.size
    if size < 8:
        raise CorruptFile(f"{path}: {size} bytes are too few for a safetensors file", hint=_AGAIN)
    content = file.content()
    length = int.from_bytes(content[:8], "little")
    if length > _MAX_HEADER or length < 2:
        raise CorruptFile(f"{path}: not a safetensors file: a header of {length} bytes")
    if length > size - 8:
        raise CorruptFile(
            f"{path}: the file is truncated: the header has {length} bytes, {size - 8} are there",
            hint=_AGAIN,
        )
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}: the safetensors header is broken: {error}") from None
    if not isinstance(header, dict):
        raise CorruptFile(f"{path}: the safetensors header is not a JSON object")
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name appears twice")
    return made


def _place(file: MappedFile, name: str, entry: object, number: int, data_start: int) -> _Place:
    path = file.path
    what = f"{path}: the tensor {name!r}"
    if not isinstance(entry, dict):
        raise CorruptFile(f"{what} is not described")
    code: object = entry.get("dtype")
    shape: object = entry.get("shape")
    offsets: object = entry.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise CorruptFile(f"{what} has no valid shape and data_offsets")
    if not isinstance(code, str) or code not in _KINDS:
        raise UnknownFormat(f"{what} has the unknown type {code}", hint=f"known types: {' '.join(_KINDS)}")
    kind = dtype(_KINDS[code])
    nbytes = kind.shape_bytes(shape)
    first, last = offsets
    if last - first != nbytes:
        raise CorruptFile(f"{what} of type {code} and shape {shape} needs {nbytes} bytes, not {last - first}")
    missing = data_start + last - file.size
    if missing > 0:
        raise CorruptFile(
            f"{path}: the file is truncated: {missing} bytes of the tensor {name!r} are missing",
            hint=_AGAIN,
        )
    return _Place(TensorInfo(name, kind.name, tuple(shape), nbytes), kind, number, data_start + first)


def _are_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
