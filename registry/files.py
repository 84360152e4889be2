"""Which files on disk make up a model: one GGUF, all parts of a split one, or a folder of safetensors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import CorruptFile, UnknownFormat
from .disk import disk_errors
from .manifest import is_safe_title

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
BESIDE = (
    "config.json", "generation_config.json", "tokenizer*.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk: `path` opens it, `files` are all it needs; `named` when their names matter."""

    format: Literal["gguf", "safetensors"]
    path: Path
    files: tuple[Path, ...]

    @property
    def named(self) -> bool:
        """Whether the files are only usable under their names."""
        return self.format == "safetensors" or len(self.files) > 1


def find_model_files(path: Path) -> ModelFiles:
    """Return the model that `path` (a file or a folder) names; raise UnknownFormat or CorruptFile."""
    with disk_errors(f"read {path}"):
        return _in_folder(path) if path.is_dir() else _gguf(path)


def starts_with(path: Path) -> bytes:
    """Return a file's first bytes; raise UnknownFormat for a pointer that stands for an absent file."""
    with open(path, "rb") as file:
        head = file.read(len(_LFS))
    if head == _LFS:
        raise UnknownFormat(f"{path} is a Git LFS pointer, not the file itself", hint="git lfs pull")
    return head


def _gguf(path: Path) -> ModelFiles:
    if starts_with(path)[:4] != b"GGUF":
        hint = "only GGUF files and folders of safetensors can be used"
        if path.suffix == ".safetensors":
            hint = f"name its folder instead: {path.parent}"
        elif path.suffix in PICKLED:
            hint = "pickled weights can run code and are never opened; convert them to safetensors"
        raise UnknownFormat(f"{path} is not a GGUF file", hint=hint)
    part = PART.fullmatch(path.name)
    if part is None:
        return ModelFiles("gguf", path, (path,))
    count = int(part["count"])
    names = (f"{part['stem']}-{number:05d}-of-{part['count']}.gguf" for number in range(1, count + 1))
    files = tuple(path.with_name(name) for name in names)
    for file in files:
        if not file.is_file():
            raise CorruptFile(f"{file} is missing: the model is split into {count} files")
        _refuse_unsafe(file.name)
    return ModelFiles("gguf", files[0], files)


def _in_folder(folder: Path) -> ModelFiles:
    names = sorted(entry.name for entry in folder.iterdir())
    weights = _safetensors(folder, names)
    if weights:
        if "config.json" not in names:
            raise CorruptFile(f"{folder} has no config.json")
        beside = sorted({file for pattern in BESIDE for file in folder.glob(pattern) if file.is_file()})
        for file in (*weights, *beside):
            _refuse_unsafe(file.name)
            starts_with(file)
        return ModelFiles("safetensors", folder, (*weights, *beside))
    parts = {name: PART.fullmatch(name) for name in names if name.endswith(".gguf")}
    first = [name for name, part in parts.items() if part is None or part["number"] == "00001"]
    if len(first) == 1:
        return _gguf(folder / first[0])
    if first:
        raise UnknownFormat(f"{folder} holds several models", hint="name one: " + ", ".join(first[:5]))
    hint = "pickled weights are never opened; convert them to safetensors"
    pickled = any(name.endswith(PICKLED) for name in names)
    raise UnknownFormat(f"{folder} holds no .safetensors and no .gguf file", hint=hint if pickled else None)


def _safetensors(folder: Path, names: list[str]) -> list[Path]:
    """Return the weight files that belong together; a folder may hold the same weights twice."""
    index = "model.safetensors.index.json"
    if index in names:
        try:
            wanted = sorted(set(json.loads((folder / index).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(f"{folder / index} has no valid weight_map") from error
        for name in wanted:
            if not isinstance(name, str) or not is_safe_title(name) or name not in names:
                raise CorruptFile(f"{folder / index} names the file {name!r}, which is not there")
        return [folder / index, *(folder / name for name in wanted)]
    if "model.safetensors" in names:
        return [folder / "model.safetensors"]
    found = [name for name in names if name.endswith(".safetensors") and not name.startswith("adapter_")]
    return [folder / name for name in found if name.startswith("model")] or [folder / name for name in found]


def _refuse_unsafe(name: str) -> None:
    if not is_safe_title(name):
        raise UnknownFormat(f"the file name {name!r} cannot be kept in the store", hint="rename the file")
