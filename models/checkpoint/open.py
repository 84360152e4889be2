"""Opens a checkpoint by what its first bytes say, whatever its name."""

from __future__ import annotations

from pathlib import Path

from ...errors import CheckpointError, ModelNotFound, UnknownFormat
from .base import Checkpoint
from .gguf import GGUFCheckpoint
from .gguf_header import MAGIC
from .safetensors import SafetensorsCheckpoint

# First bytes of what people download by mistake, and what to say about it.
_LOOKALIKES: tuple[tuple[bytes, str, str | None], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "git lfs pull"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch pickle, which is never read", "convert it to safetensors"),
    (b"\x80\x02", "a Python pickle, which is never read", "convert it to safetensors"),
    (b"ggml", "the old GGML format", "convert it to GGUF"),
    (b"lmgg", "the old GGML format", "convert it to GGUF"),
    (b"fmgg", "the old GGML format", "convert it to GGUF"),
    (b"tjgg", "the old GGJT format", "convert it to GGUF"),
    (b"\x89HDF", "an HDF5 file", None),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"FUGG", "a GGUF file with its bytes swapped", None),
)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a GGUF file, a .safetensors file or a folder of them; raise one of our errors otherwise."""
    try:
        if path.is_dir():
            return _open_folder(path)
        with path.open("rb") as file:
            start = file.read(256)
    except FileNotFoundError:
        raise ModelNotFound(f"{path}: no such file or folder") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"{path}: cannot be read: {reason}") from None
    if start.startswith(MAGIC):
        return GGUFCheckpoint(path)
    if path.suffix == ".safetensors" and not _lookalike(start):
        return SafetensorsCheckpoint(path)
    raise _unknown(path, start)


def _open_folder(path: Path) -> Checkpoint:
    if any(path.glob("*.safetensors")) or (path / "model.safetensors.index.json").is_file():
        return SafetensorsCheckpoint(path)
    models = sorted(path.glob("*.gguf"))
    first = [model for model in models if "-of-" not in model.name or "-00001-of-" in model.name]
    if len(first) == 1:
        return GGUFCheckpoint(first[0])
    if models:
        raise UnknownFormat(f"{path}: holds {len(models)} GGUF files", hint=f"name one, for example {models[0]}")
    if any(path.glob("pytorch_model*.bin")) or any(path.glob("*.pth")):
        raise UnknownFormat(
            f"{path}: holds only PyTorch pickles, which are never read because they can run code",
            hint="convert the model to safetensors",
        )
    raise UnknownFormat(f"{path}: a folder without *.safetensors or *.gguf files")


def _lookalike(start: bytes) -> tuple[str, str | None] | None:
    if not start:
        return "an empty file", "download it again"
    if start.lstrip()[:64].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, perhaps an error or login page saved by a download", "download it again"
    for prefix, what, hint in _LOOKALIKES:
        if start.startswith(prefix):
            return what, hint
    return None


def _unknown(path: Path, start: bytes) -> UnknownFormat:
    found = _lookalike(start)
    if found is not None:
        return UnknownFormat(f"{path}: not a model file but {found[0]}", hint=found[1])
    return UnknownFormat(
        f"{path}: neither a GGUF file nor a folder of safetensors",
        hint="safetensors models are opened by their folder",
    )
