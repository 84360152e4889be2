"""Model names: `[host/][namespace/]model[:tag]`, their rules and their default parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import InvalidName

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
HUB, MODELSCOPE = "hf.co", "modelscope.cn"
"""The hosts that names of models from Hugging Face and from ModelScope begin with."""

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

    def elsewhere(self) -> tuple[ModelName, ...]:
        """Return what else these words may mean: `user/repo` without a host is Hugging Face's before Ollama's."""
        if (
            self.host.lower() in ("huggingface.co", DEFAULT_HOST)
            and self.namespace.lower() != DEFAULT_NAMESPACE
        ):
            return (replace(self, host=HUB),)
        return ()

    def full(self) -> str:
        """Write all four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelName) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __str__(self) -> str:
        return self.short()


def nearest(text: str, names: Iterable[ModelName]) -> tuple[str, ...]:
    """Return up to three of `names` that look like `text`, the likest first."""
    import difflib

    text, likeness = text.lower(), {}
    for short in (name.short() for name in names):
        whole = short.lower()
        forms = {whole, whole.rpartition(":")[0], *(f.rpartition(":")[0] for f in _tails(whole))}
        ratios = [difflib.SequenceMatcher(None, text, form).ratio() for form in forms]
        likeness[short] = max(*ratios, 0.9 if any(form.startswith(text) for form in forms) else 0.0)
    near = [short for short, ratio in likeness.items() if ratio >= 0.6]
    return tuple(sorted(near, key=lambda short: (-likeness[short], short))[:3])


def _tails(text: str) -> list[str]:
    """Return what follows each slash."""
    parts = text.split("/")
    return ["/".join(parts[i:]) for i in range(1, len(parts))]


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
