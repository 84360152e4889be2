"""Opens a checkpoint by what its first bytes say, whatever its name."""

from __future__ import annotations

from pathlib import Path

from ...errors import CheckpointError, ModelNotFound, UnknownFormat
from .base import Checkpoint
from .gguf import GGUFCheckpoint, gguf_parts
from .gguf_header import MAGIC
from .safetensors import SafetensorsCheckpoint

_CONVERT = "convert the model to safetensors or GGUF"

# First bytes of what people download by mistake, and what to say about it.
_LOOKALIKES: tuple[tuple[bytes, str, str | None], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "git lfs pull"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch pickle, which is never read", _CONVERT),
    (b"\x80\x02", "a Python pickle, which is never read", _CONVERT),
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
    if path.is_dir():
        return _open_folder(path)
    start = _first_bytes(path)
    if start.startswith(MAGIC):
        return GGUFCheckpoint(path)
    if path.suffix == ".safetensors" and not _lookalike(start):
        return SafetensorsCheckpoint(path)
    raise _unknown(path, start)


def _first_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            path.stat()
            raise UnknownFormat(f"{path}: neither a file nor a folder")
        with path.open("rb") as file:
            return file.read(256)
    except FileNotFoundError:
        raise ModelNotFound(f"{path}: no such file or folder") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ModelNotFound(f"{str(path)!r}: not the name of a file") from None


def _open_folder(path: Path) -> Checkpoint:
    if any(path.glob("*.safetensors")) or (path / "model.safetensors.index.json").is_file():
        return SafetensorsCheckpoint(path)
    models = sorted({(gguf_parts(file) or [file])[0] for file in path.glob("*.gguf")})
    if len(models) == 1:
        return GGUFCheckpoint(models[0])
    if models:
        raise UnknownFormat(f"{path}: holds {len(models)} GGUF models", hint=f"name one, such as {models[0]}")
    if any(path.glob("pytorch_model*.bin")) or any(path.glob("*.pth")):
        raise UnknownFormat(
            f"{path}: holds only PyTorch pickles, which are never read because they can run code",
            hint=_CONVERT,
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
