"""What to take from a repository of files: one quantization with all its parts, or a folder of safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from ...errors import ModelNotFound, NotSupported, RemoteError
from ..files import BESIDE, PART, PICKLED
from ..manifest import FILE, MODEL, PARAMS, SYSTEM, is_safe_title
from ..remote import RemoteBlob
from ..sites import Site
from .quants import Choice, Machine, best, in_gb, quant_of
from .reference import Reference

_INDEX = "model.safetensors.index.json"
_LISTED = 12  # files named in an error
_TEXT = 1 << 20  # bytes; the texts beside the weights are small


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file of a repository; large ones have a SHA-256, small ones perhaps git's name for their content."""

    path: str
    size: int | None
    url: str
    sha256: str | None = None
    git_id: str | None = None

    @property
    def base(self) -> str:
        """Its name without folders."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken, as blobs; `notes` say why, `wanted` gets the same again."""

    blobs: tuple[RemoteBlob, ...]
    format: str
    wanted: str
    quant: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repository:
    """The files of one repository, and how to read a small one."""

    reference: Reference
    files: tuple[RepoFile, ...]
    site: Site
    read: Callable[[RepoFile], bytes]

    def take(self, machine: Machine) -> Taken:
        """Choose what was wanted; raises ModelNotFound or NotSupported with what there is."""
        wanted = "" if self.reference.wanted == "latest" else self.reference.wanted
        choices = self.choices()
        if wanted.lower().endswith(".gguf"):
            return self._gguf(self._named(wanted), ())
        if wanted.lower() == "safetensors" or not (choices or wanted):
            return self._safetensors()
        if not wanted:
            chosen, reason = best(choices, machine)
            return self._gguf(chosen, (f"{chosen.label}: {reason}", *_others(choices, chosen)))
        for wish in (wanted.upper(), f"UD-{wanted.upper()}"):
            found = [choice for choice in choices if choice.quant == wish]
            if found:
                return self._gguf(min(found, key=lambda choice: len(choice.files[0])), ())
        raise ModelNotFound(f"{self.reference.repo} has no {wanted}", hint=self._offer(choices))

    def pick(self, choice: Choice) -> Taken:
        """Take one of `choices`; raises NotSupported where a part of it is missing."""
        return self._gguf(choice, ())

    def choices(self) -> list[Choice]:
        """Return the models that GGUF files hold; projectors and importance matrices are none."""
        groups: dict[str, list[RepoFile]] = {}
        for file in self.files:
            if file.base.lower().endswith(".gguf") and not re.search(
                r"mmproj|imatrix", file.base, re.IGNORECASE
            ):
                part = PART.fullmatch(file.base)
                groups.setdefault(
                    file.path[: -len(file.base)] + (part["stem"] if part else file.base), []
                ).append(file)
        found = []
        for files in groups.values():
            ordered = sorted(files, key=lambda file: file.path)
            found.append(Choice(tuple(f.path for f in ordered), sum(f.size or 0 for f in ordered)))
        return found

    def _named(self, wanted: str) -> Choice:
        """Return the file that a user named, with the other parts of a split one."""
        match = [f for f in self.files if f.path == wanted] or [f for f in self.files if f.base == wanted]
        if not match:
            message = f"{self.reference.repo} has no file {wanted}"
            raise ModelNotFound(message, hint=self._offer(self.choices()))
        file = match[0]
        for choice in self.choices():
            if file.path in choice.files:
                return choice
        return Choice((file.path,), file.size or 0)

    def _gguf(self, choice: Choice, notes: tuple[str, ...]) -> Taken:
        by_path = {file.path: file for file in self.files}
        files = [by_path[path] for path in choice.files]
        part = PART.fullmatch(files[0].base)
        if part is not None:
            names = [
                f"{part['stem']}-{i:05}-of-{part['count']}.gguf" for i in range(1, int(part["count"]) + 1)
            ]
            absent = sorted(set(names) - {file.base for file in files})
            if absent:
                raise NotSupported(
                    f"{self.reference.repo} lacks {absent[0]}: the model is split into {len(names)}"
                )
        blobs = [self._blob(file, MODEL, named=part is not None) for file in files]
        # The texts that hf.co's bridge to Ollama reads; its `template` is Go, and the file has Jinja.
        for name, kind in (("system", SYSTEM), ("params", PARAMS)):
            if name in by_path and 0 < (by_path[name].size or 0) < _TEXT:
                blobs.append(self._blob(by_path[name], kind, named=False))
        return Taken(tuple(blobs), "gguf", choice.files[0], choice.quant, notes)

    def _safetensors(self) -> Taken:
        top = {file.path: file for file in self.files if "/" not in file.path}
        weights = self._weights(top)
        if not weights or "config.json" not in top:
            raise NotSupported(f"{self.reference.repo} has no file that can be used", hint=self._contents())
        beside = [n for n in sorted(top) if any(fnmatch(n, pattern) for pattern in BESIDE)]
        blobs = [self._blob(top[name], FILE, named=True) for name in dict.fromkeys((*weights, *beside))]
        return Taken(tuple(blobs), "safetensors", "safetensors")

    def _weights(self, top: dict[str, RepoFile]) -> list[str]:
        """Return the weight files that belong together; a repository may hold the same weights twice."""
        if _INDEX in top:
            try:
                names = sorted(set(json.loads(self.read(top[_INDEX]))["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RemoteError(f"{self.reference.repo}: {_INDEX} has no valid weight_map") from error
            for name in names:
                if not isinstance(name, str) or not is_safe_title(name) or name not in top:
                    raise RemoteError(f"{self.reference.repo}: {_INDEX} names {name!r}, which is not there")
            return [_INDEX, *names]
        if "model.safetensors" in top:
            return ["model.safetensors"]
        found = [n for n in sorted(top) if n.endswith(".safetensors") and not n.startswith("adapter_")]
        return [n for n in found if n.startswith("model")] or found

    def _blob(self, file: RepoFile, kind: str, *, named: bool) -> RemoteBlob:
        return RemoteBlob(
            kind,
            file.base,
            url=file.url,
            size=file.size,
            digest=f"sha256:{file.sha256}" if file.sha256 else None,
            git_id=file.git_id if not file.sha256 else None,
            title=file.base if named else None,
            site=self.site,
        )

    def _offer(self, choices: list[Choice]) -> str:
        if not choices:
            return self._contents()
        sizes = sorted((c.size, c.label) for c in choices)
        shown = [f"{label} ({in_gb(size)})" for size, label in sizes]
        return f"it has {_list(shown)}"

    def _contents(self) -> str:
        if not self.files:
            return "the repository is empty"
        pickled = any(file.base.endswith(PICKLED) for file in self.files)
        why = "; pickled weights can run code and are never opened" if pickled else ""
        return f"only GGUF and safetensors can be used; it has {_list([f.path for f in self.files])}{why}"


def _others(choices: list[Choice], chosen: Choice) -> tuple[str, ...]:
    """Name what else there is, for who wants something smaller or larger."""
    labels = list(dict.fromkeys(c.label for c in sorted(choices, key=lambda c: c.size) if c is not chosen))
    return (
        (f"others, to be had as NAME:QUANT: {_list(labels)}",) if labels and quant_of(chosen.files[0]) else ()
    )


def _list(items: Sequence[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
