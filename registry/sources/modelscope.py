"""ModelScope: the same repositories as Hugging Face's, behind an interface of its own."""

from __future__ import annotations

import re
from urllib.parse import quote

from ...errors import RemoteError
from ...settings import Remotes
from ..remote import RemoteModel
from ..web import Web
from .hub import HubSite
from .quants import Machine
from .reference import Reference
from .repository import RepoFile, Repository

_SHA256 = re.compile(r"[0-9a-f]{64}")


def resolve_modelscope(
    reference: Reference, remotes: Remotes, web: Web, machine: Machine, revision: str | None = None
) -> RemoteModel:
    """Find the files of a model of ModelScope; raises MullError."""
    revision, repository = list_modelscope(reference, remotes, web, revision)
    taken = repository.take(machine)
    return RemoteModel(
        name=reference.name,
        blobs=taken.blobs,
        source=f"ms://{reference.repo}:{taken.wanted}",
        revision=revision,
        notes=taken.notes,
        details={"model_format": taken.format, "file_type": taken.quant},
    )


def list_modelscope(
    reference: Reference, remotes: Remotes, web: Web, revision: str | None = None
) -> tuple[str, Repository]:
    """Return the revision and the files of a repository of ModelScope; raises MullError."""
    endpoint, revision = remotes.modelscope_endpoint, revision or "master"
    site = HubSite(endpoint, reference.repo, remotes.modelscope_token, "MODELSCOPE_API_TOKEN")
    asked = f"{endpoint}/api/v1/models/{reference.repo}/repo/files?Revision={quote(revision)}&Recursive=true"
    answer = web.fetch_json(asked, site)
    data = answer.get("Data") if isinstance(answer, dict) else None
    listed = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise RemoteError(f"ModelScope sent no list of the files of {reference.repo}")
    files = []
    for item in listed:
        path = item.get("Path") if isinstance(item, dict) else None
        if not isinstance(path, str) or item.get("Type") == "tree":
            continue
        size, digest = item.get("Size"), item.get("Sha256")
        url = f"{endpoint}/models/{reference.repo}/resolve/{quote(revision)}/{quote(path)}"
        known = digest if isinstance(digest, str) and _SHA256.fullmatch(digest) else None
        files.append(RepoFile(path, size if isinstance(size, int) else None, url, known))
    return revision, Repository(reference, tuple(files), site, lambda file: web.fetch(file.url, site)[0])
