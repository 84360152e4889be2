"""Model names: `[host/][namespace/]model[:tag]`, their rules and their default parts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidName

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# Every part begins with a letter, a digit or "_", so no part is ever "." or "..".
_LETTERS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}


@dataclass(frozen=True, slots=True, eq=False)
class ModelName:
    """A complete, valid name; two names are equal when they differ in case only."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        """Refuse parts that break the rules, so that every instance is safe as a path."""
        for kind in _LETTERS:
            _check(kind, getattr(self, kind), self.full())

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name as a user types it, filling absent parts with the defaults; raise InvalidName."""
        rest = text.strip()
        for scheme in ("https://", "http://"):
            rest = rest.removeprefix(scheme)
        tag = DEFAULT_TAG
        if rest.rfind(":") > rest.rfind("/"):
            rest, _, tag = rest.rpartition(":")
        parts = rest.rsplit("/", 2)
        given = dict(zip(("model", "namespace", "host"), reversed(parts), strict=False))
        for kind, part in {**given, "tag": tag}.items():
            _check(kind, part, text)
        return cls(
            given.get("host", DEFAULT_HOST),
            given.get("namespace", DEFAULT_NAMESPACE),
            given["model"],
            tag,
        )

    def parts(self) -> tuple[str, str, str, str]:
        """Return host, namespace, model, tag: the folders and the file of the manifest."""
        return self.host, self.namespace, self.model, self.tag

    def key(self) -> tuple[str, ...]:
        """Return what is the same for names that differ in case only."""
        return tuple(part.lower() for part in self.parts())

    def short(self) -> str:
        """Write the name as lists show it: without the default host and namespace, always with the tag."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full()
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    def full(self) -> str:
        """Write all four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelName) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __str__(self) -> str:
        return self.short()


def _check(kind: str, part: str, text: str) -> None:
    """Raise InvalidName when `part` is not a valid host, namespace, model or tag."""
    if _LETTERS[kind].fullmatch(part):
        return
    shown = text if len(text) <= 120 else text[:117] + "..."
    longest = 350 if kind == "host" else 80
    if not part:
        why = f"the {kind} is empty"
    elif len(part) > longest:
        why = f"the {kind} has {len(part)} characters, at most {longest} are allowed"
    elif not re.match("[A-Za-z0-9_]", part):
        why = f"the {kind} must begin with a letter, a digit or '_'"
    else:
        wrong = next(c for c in part if not re.fullmatch(_LETTERS[kind], "a" + c))
        why = f"the {kind} must not contain {wrong!r}"
    hint = "names look like [host/][namespace/]model[:tag]"
    raise InvalidName(f"invalid model name {shown!r}: {why}", hint=hint)
