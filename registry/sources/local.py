"""A model's files on this machine, to be linked into the store."""

from __future__ import annotations

from pathlib import Path

from ...errors import InvalidName, ModelNotFound
from ..files import find_model_files
from ..manifest import FILE, MODEL
from ..remote import RemoteBlob, RemoteModel
from .quants import quant_of
from .reference import Reference


def resolve_file(reference: Reference) -> RemoteModel:
    """Find the files of a model on disk; raises ModelNotFound, UnknownFormat or CorruptFile."""
    try:
        path = Path(reference.path).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidName(f"no such user in {reference.path!r}") from error
    if not path.exists():
        raise ModelNotFound(f"{path}: no such file or folder")
    found = find_model_files(path)
    kind = FILE if found.format == "safetensors" else MODEL
    blobs = tuple(
        RemoteBlob(
            kind, file.name, size=file.stat().st_size, title=file.name if found.named else None, path=file
        )
        for file in found.files
    )
    details = {"model_format": found.format, "file_type": quant_of(path.name)}
    return RemoteModel(reference.name, blobs, source=path.as_uri(), details=details)
