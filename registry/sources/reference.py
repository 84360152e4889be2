"""What a user names to have a model pulled: which kind of source it is, and the name that the model gets."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from ...errors import InvalidName
from ..name import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, HUB, MODELSCOPE, ModelName
from .quants import quant_of

Source = Literal["hub", "modelscope", "oci", "address", "file"]

_HOSTS = {
    "hf.co": HUB, "huggingface.co": HUB, "www.huggingface.co": HUB,
    "modelscope.cn": MODELSCOPE, "www.modelscope.cn": MODELSCOPE,
    "ollama.com": DEFAULT_HOST, "www.ollama.com": DEFAULT_HOST, "registry.ollama.ai": DEFAULT_HOST,
}  # fmt: skip
_SCHEMES = {
    "hf": HUB, "huggingface": HUB, "ms": MODELSCOPE, "modelscope": MODELSCOPE, "ollama": DEFAULT_HOST,
    "oci": "", "docker": "",
}  # fmt: skip
_REPO_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_WEIGHTS = (".gguf", ".safetensors")


@dataclass(frozen=True, slots=True)
class Reference:
    """A source, taken apart: `repo` and `wanted` (a quantization or a file) of a hub, `path` of others.

    name: what the model will be called. plain: whether a registry is to be asked without encryption.
    """

    source: Source
    name: ModelName
    text: str
    repo: str = ""
    wanted: str = ""
    path: str = ""
    plain: bool = False


def parse_reference(text: str) -> Reference:
    """Read what a user names; raises InvalidName."""
    given = text.strip()
    scheme, separator, rest = given.partition("://")
    scheme = scheme.lower() if separator else ""
    if scheme == "file" or given.startswith((".", "/", "~")):
        return _file(given, unquote(rest) if scheme else given)
    if scheme in ("http", "https"):
        return _web(given, scheme)
    if scheme in _SCHEMES:
        host = _SCHEMES[scheme]
        head, _, tail = rest.partition("/")
        rest = tail if host and _HOSTS.get(head.lower()) == host else rest
        return _on_host(given, host, rest) if host else _named(given, rest)
    if scheme:
        hint = "use one of hf.co/…, ms://…, ollama://…, https://…, file://…"
        raise InvalidName(f"{given!r}: no models come from {scheme}://", hint=hint)
    return _named(given, given)


def _named(text: str, rest: str) -> Reference:
    """Read a name without a scheme; `user/repo` is Hugging Face's, `model` and `library/model` are Ollama's."""
    parts = rest.split("/")
    head = parts[0]
    if len(parts) > 1 and _is_host(head):
        known = _HOSTS.get(head.lower(), head)
        return _on_host(text, known, "/".join(parts[1:]))
    if len(parts) == 1 or head.lower() == DEFAULT_NAMESPACE:
        return Reference("oci", ModelName.parse(rest), text)
    return _hub(text, HUB, rest)


def _on_host(text: str, host: str, rest: str, *, plain: bool = False) -> Reference:
    if host in (HUB, MODELSCOPE):
        return _hub(text, host, rest)
    path, tag = _split_tag(rest)
    namespace, _, model = path.rpartition("/")
    name = ModelName.parse(f"{host}/{namespace or DEFAULT_NAMESPACE}/{model}:{tag or DEFAULT_TAG}")
    return Reference("oci", name, text, plain=plain)


def _hub(text: str, host: str, rest: str) -> Reference:
    """Read `user/repo`, then `:quantization`, `:file` or `/file`."""
    path, wanted = _split_tag(rest)
    parts = [part for part in path.split("/") if part]
    if len(parts) < 2 or not all(_REPO_PART.fullmatch(part) for part in parts[:2]):
        hint = f"names of {host} look like {host}/user/repo[:quantization]"
        raise InvalidName(f"{text!r} names no repository", hint=hint)
    if len(parts) > 2:
        wanted = "/".join(parts[2:])
    if any(part in (".", "..") for part in wanted.split("/")):
        raise InvalidName(f"{text!r} leaves the repository")
    name = _model_name(text, host, parts[0], parts[1], _tag(wanted))
    return Reference("hub" if host == HUB else "modelscope", name, text, "/".join(parts[:2]), wanted)


def _web(text: str, scheme: str) -> Reference:
    """Read an address: a page or file of a hub, a weights file anywhere, or else a registry's name."""
    try:
        parts = urlsplit(text)
        known = parts.hostname
    except ValueError as error:
        raise InvalidName(f"{text!r} is no address: {error}") from error
    path = unquote(parts.path).strip("/")
    host = _HOSTS.get((known or "").lower())
    if host in (HUB, MODELSCOPE):
        steps = path.removeprefix("models/").split("/") if host == MODELSCOPE else path.split("/")
        if len(steps) > 4 and steps[2] in ("blob", "resolve", "raw"):
            steps = [*steps[:2], *steps[4:]]
        elif len(steps) > 2 and steps[2] in ("tree", "files", "summary"):
            steps = steps[:2]
        return _hub(text, host, "/".join(steps))
    if path.lower().endswith(_WEIGHTS):
        stem, folder = Path(path).stem, Path(path).parent.name or "files"
        netloc = parts.netloc.rpartition("@")[2]
        model, tag = _without_quant(stem)
        name = _model_name(text, _fitting(netloc, 350), _fitting(folder.replace(".", "-")), model, tag)
        return Reference("address", name, text, path=text)
    if not path:
        raise InvalidName(f"{text!r} names no model")
    return _on_host(text, host or parts.netloc, path, plain=scheme == "http")


def _file(text: str, path: str) -> Reference:
    if text.lower().startswith("file:"):
        # file://localhost/path is file:///path; file://./x names one beside the caller.
        path = path.removeprefix("localhost")
    stem = Path(path).stem if path.lower().endswith(_WEIGHTS) else Path(path).name
    model, tag = _without_quant(re.sub(r"-00001-of-\d{5}$", "", stem))
    return Reference("file", _model_name(text, DEFAULT_HOST, "local", model, tag), text, path=path)


def _model_name(text: str, *parts: str) -> ModelName:
    try:
        return ModelName(*parts)
    except InvalidName as error:
        raise InvalidName(f"{text!r} needs another name here: {error.message}", hint="--as NAME") from error


def _without_quant(stem: str) -> tuple[str, str]:
    """Divide a file's stem into the model and its quantization, as parts of a name."""
    quant = quant_of(stem)
    model = re.sub(rf"[-._]?{re.escape(quant)}$", "", stem, flags=re.IGNORECASE) if quant else stem
    return _fitting(model or stem), quant or DEFAULT_TAG


def _tag(wanted: str) -> str:
    """Return the tag for what was wanted; a file's is its quantization, or else its stem."""
    if not wanted:
        return DEFAULT_TAG
    if not wanted.lower().endswith(".gguf"):
        return wanted
    return quant_of(wanted) or _fitting(Path(wanted).stem)


def _fitting(part: str, longest: int = 80) -> str:
    """Make a part of a name of a text; long ones keep their beginning and a sign of the rest."""
    clean = (
        re.sub(r"[^A-Za-z0-9_.-]+" if longest == 80 else r"[^A-Za-z0-9_.:-]+", "-", part).lstrip(".-")
        or "model"
    )
    if len(clean) <= longest:
        return clean
    return f"{clean[: longest - 9]}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


def _split_tag(rest: str) -> tuple[str, str]:
    """Divide `path:tag`; a file after the colon may have slashes."""
    head, separator, tail = rest.partition(":")
    return (head, tail) if separator else (rest, "")


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part.lower() == "localhost"
