"""Hugging Face and the hubs that speak its protocol: metadata by huggingface_hub, files by their addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import httpx2

from ...errors import ModelNotFound, MullError, RemoteError, Unreachable
from ...settings import HF_ENDPOINT, Remotes, keep_hub_quiet
from ..remote import RemoteModel
from ..sites import host_of, origin_of, refusal
from ..web import TryAgain, Web, transport_errors
from .quants import Machine
from .reference import Reference
from .repository import RepoFile, Repository

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ENDPOINT_TOKEN = "MULL_ENDPOINT_TOKEN"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class HubSite:
    """One repository of a hub: only the hub itself sees its token, whatever it redirects to."""

    endpoint: str
    repo: str
    token: str | None = field(repr=False)
    variable: str = "HF_TOKEN"

    def __post_init__(self) -> None:
        """Refuse what no header can carry, before an error of the library shows it."""
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            hint = "it has a line break, or a character that is not ASCII"
            raise RemoteError(f"{self.variable} holds no token", hint=hint)

    def headers(self, url: str) -> Mapping[str, str]:
        """Return the token for an address of the hub, and nothing for one elsewhere."""
        if self.token is None or origin_of(url) != origin_of(self.endpoint):
            return {}
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self, response: httpx2.Response) -> bool:
        """A refused token stays refused."""
        return False

    def refusal(self, status: int, headers: Mapping[str, str], url: str) -> MullError:
        """Say what the hub means; it answers 401 for what does not exist, lest anybody learn what does."""
        if origin_of(url) != origin_of(self.endpoint):
            return refusal(status, url, "the file")
        host, code = host_of(self.endpoint), headers.get("x-error-code", "")
        if code == "GatedRepo":
            page = f"{self.endpoint}/{self.repo}"
            hint = (
                f"accept its terms at {page}"
                if self.token
                else f"accept its terms at {page}, then {self._how()}"
            )
            return _refused(
                f"{self.repo} is gated: {host} gives it to those who accepted its terms", hint, status
            )
        if code == "EntryNotFound" or (status == 404 and "/resolve/" in url):
            return ModelNotFound(f"{self.repo} has no file {url.rpartition('/')[2].partition('?')[0]}")
        if status == 401 and self.token and code != "RepoNotFound":
            return _refused(f"{host} refuses the token", f"is {self.variable} still valid?", status)
        if status in (401, 404) or code == "RepoNotFound":
            hint = "llm search TERM looks for models by name"
            if not self.token:
                hint = f"for a private one {self._how()}; {hint}"
            return ModelNotFound(f"{host} has no {self.repo}, or does not show it to everybody", hint=hint)
        if status == 403:
            hint = "the token may not read it" if self.token else self._how()
            return _refused(f"{host} does not give {self.repo} to you (403)", hint, status)
        return refusal(status, url, self.repo)

    def _how(self) -> str:
        if self.variable == "HF_TOKEN":
            return f"set HF_TOKEN to a token of {HF_ENDPOINT}/settings/tokens, or run: hf auth login"
        apart = " (HF_TOKEN is for huggingface.co, and not sent there)"
        host = host_of(self.endpoint)
        return f"set {self.variable} to a token of {host}{apart if self.variable == ENDPOINT_TOKEN else ''}"


def hub_site(repo: str, remotes: Remotes) -> HubSite:
    """Return a repository of the hub that the settings name, with the token that belongs there."""
    if origin_of(remotes.hf_endpoint) == origin_of(HF_ENDPOINT):
        return HubSite(remotes.hf_endpoint, repo, remotes.hf_token)
    return HubSite(remotes.hf_endpoint, repo, remotes.endpoint_token, ENDPOINT_TOKEN)


def resolve_hub(
    reference: Reference, remotes: Remotes, web: Web, machine: Machine, revision: str | None = None
) -> RemoteModel:
    """Find the files of a model of Hugging Face; raises MullError."""
    commit, repository = list_hub(reference, remotes, web, revision)
    taken = repository.take(machine)
    return RemoteModel(
        name=reference.name,
        blobs=taken.blobs,
        source=f"hf.co/{reference.repo}:{taken.wanted}",
        revision=commit,
        notes=taken.notes,
        details={"model_format": taken.format, "file_type": taken.quant},
    )


def list_hub(
    reference: Reference, remotes: Remotes, web: Web, revision: str | None = None
) -> tuple[str, Repository]:
    """Return the commit and the files of a repository of Hugging Face; raises MullError."""
    if remotes.offline:
        raise Unreachable("HF_HUB_OFFLINE is set: nothing is asked of Hugging Face")
    site = hub_site(reference.repo, remotes)
    commit, files = web.patiently(lambda: _files(site, revision, web.patience.stall))
    return commit, Repository(reference, files, site, lambda file: web.fetch(file.url, site)[0])


@dataclass(frozen=True, slots=True)
class Hit:
    """A model that a search found."""

    name: str
    downloads: int
    likes: int
    formats: tuple[str, ...]
    gated: bool
    modified: str


def search_hub(term: str, remotes: Remotes, web: Web, *, limit: int, gguf: bool = True) -> list[Hit]:
    """Search a hub's models by name, the most downloaded first."""
    if remotes.offline:
        raise Unreachable("HF_HUB_OFFLINE is set: nothing is asked of Hugging Face")
    site = hub_site(term, remotes)

    # Asked for directly: huggingface_hub tries again on its own here, and writes about it.
    query = urlencode(
        {"search": term, "filter": "gguf" if gguf else "safetensors", "sort": "downloads", "limit": limit},
        errors="replace",
    )
    answer = web.fetch_json(f"{site.endpoint}/api/models?{query}", site)
    if not isinstance(answer, list):
        raise RemoteError(f"{host_of(site.endpoint)} sent no list of models")
    return [_hit(model) for model in answer if isinstance(model, dict) and isinstance(model.get("id"), str)][
        :limit
    ]


def _hit(model: Mapping[str, object]) -> Hit:
    tags, modified = model.get("tags"), model.get("lastModified") or model.get("createdAt")
    tags = tags if isinstance(tags, list) else []

    def count(key: str) -> int:
        found = model.get(key)
        return found if isinstance(found, int) else 0

    return Hit(
        name=str(model["id"]),
        downloads=count("downloads"),
        likes=count("likes"),
        formats=tuple(kind for kind in ("gguf", "safetensors") if kind in tags),
        gated=bool(model.get("gated")),
        modified=modified[:10] if isinstance(modified, str) else "",
    )


def _files(site: HubSite, revision: str | None, timeout: float) -> tuple[str, tuple[RepoFile, ...]]:
    def ask(api: HfApi) -> tuple[str, tuple[RepoFile, ...]]:
        info = api.model_info(site.repo, revision=revision, files_metadata=True, timeout=timeout)
        commit = info.sha or revision or "main"
        files = []
        for file in info.siblings or []:
            url = f"{site.endpoint}/{site.repo}/resolve/{quote(commit)}/{quote(file.rfilename)}"
            sha256 = file.lfs.sha256 if file.lfs else None
            size: object = file.lfs.size if file.lfs else file.size
            git_id: object = file.blob_id
            known = size if isinstance(size, int) and not isinstance(size, bool) else None
            files.append(
                RepoFile(file.rfilename, known, url, sha256, git_id if isinstance(git_id, str) else None)
            )
        return commit, tuple(files)

    return _asked(site, ask)


def _asked(site: HubSite, ask: Callable[[HfApi], Result]) -> Result:
    """Ask huggingface_hub, and turn its errors into ours."""
    keep_hub_quiet()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # False, and not None: else the hub's own rules find a token for whatever server this is.
    api = HfApi(endpoint=site.endpoint, token=site.token or False, library_name="mull")
    try:
        with transport_errors(site.endpoint):
            return ask(api)
    except HfHubHTTPError as error:
        status = error.response.status_code
        ours = site.refusal(status, error.response.headers, str(error.response.url))
        if status in (408, 425, 429) or status >= 500:
            raise TryAgain(ours) from error
        raise ours from error
    except HFValidationError as error:
        raise ModelNotFound(f"{site.repo!r} is no name of a repository: {error}") from error
    except OfflineModeIsEnabled as error:
        raise Unreachable("huggingface_hub is offline (HF_HUB_OFFLINE)") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{host_of(site.endpoint)} sent no list of models or files: {type(error).__name__}: {error}"
        raise RemoteError(message) from error


def _refused(message: str, hint: str, status: int) -> RemoteError:
    error = RemoteError(message, hint=hint)
    error.status = status
    return error
