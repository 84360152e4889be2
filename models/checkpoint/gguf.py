"""GGUF files, whole or split into parts, as a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import CorruptFile, MissingTensor, ModelNotFound
from .base import Checkpoint, TensorInfo
from .gguf_header import GGUFMetadata, Header, TensorPlace, read_header
from .mapping import MappedFile

if TYPE_CHECKING:
    from torch import Tensor

    from ...quant.qtensor import QTensor

_PART = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})(?P<ending>\.gguf)", re.IGNORECASE | re.DOTALL)
_SAMPLING = "general.sampling."


def gguf_parts(path: Path) -> list[Path]:
    """Return all files of the model that `path` is a part of, in order; itself alone if it is not split."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    names = (f"{match['stem']}-{i + 1:05d}-of-{count:05d}{match['ending']}" for i in range(count))
    return [path.with_name(name) for name in names]


class GGUFCheckpoint(Checkpoint):
    """A GGUF model; `parts` are all its files in order (one, unless it is split)."""

    format: Literal["gguf", "safetensors"] = "gguf"

    def __init__(self, path: Path, parts: Sequence[Path] | None = None) -> None:
        self.path = path
        parts = list(parts) if parts is not None else gguf_parts(path)
        self._files: list[MappedFile] = []
        self._config: dict[str, object] | None = None
        try:
            headers = [self._open(part, len(parts)) for part in parts]
            if not headers:
                raise CorruptFile(f"{path}: a split model of 0 parts")
            self._metadata = headers[0].metadata
            self._check_parts(parts, headers)
            self._places = self._merge(headers)
        except BaseException:
            self.close()
            raise
        self._infos = {name: place.info for name, (_, place) in self._places.items()}

    def _open(self, part: Path, count: int) -> Header:
        if count > 1 and not part.is_file():
            raise ModelNotFound(
                f"{part}: this part of a model split into {count} files is missing",
                hint="put all parts into one folder",
            )
        file = MappedFile(part)
        self._files.append(file)
        return read_header(part, file.content())

    def _check_parts(self, parts: Sequence[Path], headers: list[Header]) -> None:
        for number, (part, header) in enumerate(zip(parts, headers, strict=True)):
            claimed = header.metadata.get("split.count", 1)
            if claimed != len(parts) and not (claimed == 0 and len(parts) == 1):
                raise CorruptFile(
                    f"{part}: belongs to a model split into {claimed} files, but {len(parts)} are at hand",
                    hint="keep the names that end in -00001-of-000NN.gguf, all in one folder",
                )
            said = header.metadata.get("split.no", number)
            if len(parts) > 1 and said != number:
                raise CorruptFile(f"{part}: says that it is part {said} (from 0) of the split model")
        total = self._metadata.get("split.tensors.count")
        found = sum(len(header.tensors) for header in headers)
        if len(parts) > 1 and isinstance(total, int) and total != found:
            raise CorruptFile(f"{self.path}: the parts hold {found} tensors, but should hold {total}")

    def _merge(self, headers: list[Header]) -> dict[str, tuple[int, TensorPlace]]:
        places: dict[str, tuple[int, TensorPlace]] = {}
        for number, header in enumerate(headers):
            for name, place in header.tensors.items():
                if name in places:
                    path = self._files[number].path
                    raise CorruptFile(f"{path}: the tensor {name!r} is in an earlier part too")
                places[name] = (number, place)
        return places

    @property
    def architecture(self) -> str:
        """`general.architecture`; raise CorruptFile if it is absent."""
        value = self._metadata.get("general.architecture")
        if not isinstance(value, str) or not value:
            raise CorruptFile(f"{self.path}: the metadata names no general.architecture")
        return value

    @property
    def metadata(self) -> GGUFMetadata:
        """The key-value pairs (of the first part); arrays are unpacked when first looked up."""
        return self._metadata

    @property
    def config(self) -> dict[str, object]:
        """The hyper-parameters, translated from GGUF's keys."""
        from .neutral import neutral_config

        if self._config is None:
            try:
                self._config = neutral_config(self._metadata)
            except CorruptFile as error:
                raise CorruptFile(f"{self.path}: {error.message}", hint=error.hint) from None
        return self._config

    @property
    def generation(self) -> dict[str, object]:
        """The pairs under `general.sampling.`, without that prefix."""
        keys = [key for key in self._metadata if key.startswith(_SAMPLING)]
        return {key.removeprefix(_SAMPLING): self._metadata[key] for key in keys}

    @property
    def chat_template(self) -> str | None:
        """`tokenizer.chat_template`, if there is one."""
        value = self._metadata.get("tokenizer.chat_template")
        if value is not None and not isinstance(value, str):
            raise CorruptFile(f"{self.path}: tokenizer.chat_template is not a string")
        return value

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's description by name, in file order."""
        return self._infos

    def part_of(self, name: str) -> int:
        """Return which file of a split model holds a tensor, counted from 0; raise MissingTensor."""
        self.info(name)
        return self._places[name][0]

    def trim(self) -> None:
        """Let go of the vocabulary and its merges as metadata, and of their pages: tens of megabytes."""
        self._metadata.pack()
        for number, file in enumerate(self._files):
            starts = [place.start for part, place in self._places.values() if part == number]
            file.forget_pages(0, min(starts, default=0))

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Return a tensor as stored; on the CPU its memory is the mapped file."""
        try:
            number, place = self._places[name]
        except KeyError:
            raise MissingTensor(f"{self.path}: there is no tensor {name!r}") from None
        return self._files[number].tensor(place.start, place.kind, place.info.shape, device)

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
