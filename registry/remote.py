"""Models that lie elsewhere: which blobs they consist of, where those are, and how each is recognised."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RemoteError
from .manifest import DIGEST, is_safe_title
from .name import ModelName
from .sites import Anyone, Site

_GIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """One file or layer: its bytes lie at `url`, or at `path` on this machine.

    digest: its SHA-256, where that is known beforehand; git_id: git's name for its content, where that is;
    etag: what the server calls this version. title: its file name, where names matter. shown: its name for people.
    """

    media_type: str
    shown: str
    url: str = ""
    size: int | None = None
    digest: str | None = None
    git_id: str | None = None
    etag: str | None = None
    title: str | None = None
    path: Path | None = None
    site: Site = field(default_factory=Anyone)

    def __post_init__(self) -> None:
        """Refuse what no honest server sends."""
        if self.digest is not None and not DIGEST.fullmatch(self.digest):
            raise RemoteError(f"{self.shown}: {self.digest!r} is not a digest")
        if self.git_id is not None and not _GIT.fullmatch(self.git_id):
            raise RemoteError(f"{self.shown}: {self.git_id!r} is not the name of a git blob")
        if self.size is not None and self.size < 0:
            raise RemoteError(f"{self.shown}: {self.size} is not a size")
        if self.title is not None and not is_safe_title(self.title):
            raise RemoteError(f"{self.title!r} is not a safe file name")

    @property
    def key(self) -> str:
        """Return the name of its partial download: the same content or version, the same key."""
        if self.digest is not None:
            return self.digest.replace(":", "-")
        if self.git_id is not None:
            return f"git-{self.git_id}"
        return "url-" + hashlib.sha256(f"{self.url} {self.etag} {self.size}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model that can be pulled: its weights and texts, and what to note about where they are from.

    config: the config blob where the source has one; details: what is known for one that is made here.
    source, revision: where it can be had again. notes: what a user should know about the choice.
    """

    name: ModelName
    blobs: tuple[RemoteBlob, ...]
    config: RemoteBlob | None = None
    source: str = ""
    revision: str = ""
    notes: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
