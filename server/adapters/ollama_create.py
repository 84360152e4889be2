"""Ollama's /api/create as a Modelfile: what it is made from, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InvalidRequest
from ...registry.manifest import DIGEST, is_safe_title
from ...registry.modelfile import Command, Modelfile, check_command
from ...registry.name import ModelName
from .ollama_fields import CreateBody
from .ollama_requests import read_turns

_KINDS = (".gguf", ".safetensors", ".json", ".model", ".txt", ".jinja")


def modelfile(body: CreateBody) -> Modelfile:
    """Return the Modelfile that a request means; files it names by the name that it gives them, in its own folder.

    Raises InvalidRequest, InvalidName, and ModelfileError for what a Modelfile could not say.
    """
    pairs = [("from", source) for source in _sources(body)]
    pairs += [("adapter", f"./{name}") for name in checked(body.adapters, "adapters")]
    pairs += _texts(body)
    commands = [Command(name, tuple(args)) for name, *args in [*pairs, *_parameters(body), *_messages(body)]]
    for command in commands:
        check_command(command)
    return Modelfile(tuple(commands))


def checked(files: Mapping[str, str] | None, field: str) -> dict[str, str]:
    """Return file names and digests; raises InvalidRequest for one that cannot be."""
    found = dict(files or {})
    for name, digest in found.items():
        if not is_safe_title(name) or not name.endswith(_KINDS):
            raise InvalidRequest(f"{name!r} is not the name of a model's file", field=field)
        if not DIGEST.fullmatch(digest):
            raise InvalidRequest(f"{digest!r} is not a digest", field=field)
    return found


def _sources(body: CreateBody) -> list[str]:
    """Return what the model is made from."""
    files = checked(body.files, "files")
    if body.from_ and files:
        raise InvalidRequest("only one of 'from' and 'files' can be specified", field="from")
    if body.from_:
        # A request must not make the server read files of its own.
        return [ModelName.parse(body.from_).short()]
    if not files:
        raise InvalidRequest("neither 'from' or 'files' was specified", field="from")
    found = [f"./{name}" for name in sorted(files) if name.endswith(".gguf")]
    return found or ["."]


def _texts(body: CreateBody) -> list[tuple[str, str]]:
    named = (
        ("template", body.template),
        ("system", body.system),
        ("renderer", body.renderer),
        ("parser", body.parser),
        ("requires", body.requires),
        ("draft", ModelName.parse(body.draft).short() if body.draft else None),
    )
    licenses = [body.license] if isinstance(body.license, str) else body.license or []
    return [
        *((name, value) for name, value in named if value),
        *(("license", text) for text in licenses if text),
    ]


def _parameters(body: CreateBody) -> list[tuple[str, str, str]]:
    """Return parameters as PARAMETER takes them, lists one by one."""
    pairs = []
    for name, value in (body.parameters or {}).items():
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            if isinstance(item, dict | list):
                raise InvalidRequest(f"parameter {name} cannot be {item!r}", field=f"parameters.{name}")
            pairs.append(("parameter", name, str(item).lower() if isinstance(item, bool) else str(item)))
    return pairs


def _messages(body: CreateBody) -> list[tuple[str, str, str]]:
    return [("message", message.role, message.content) for message in read_turns(body.messages or [])]
