"""The bodies of requests: JSON whatever the content type says, checked field by field; what has no effect is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from ..errors import InvalidRequest, MullError
from .stream import ClientLeft


class Fields(BaseModel):
    """The fields of one kind of request; others are let through, to be told of."""

    model_config = ConfigDict(extra="allow", strict=True)

    def unknown(self) -> list[str]:
        """Return the names of the fields that nobody knows."""
        return list(self.model_extra or ())


class EncodedBody(MullError):
    """A body that is compressed: its size is not known before it is unpacked."""

    status = 415


F = TypeVar("F", bound=Fields)

_TELLABLE = re.compile(r"[A-Za-z0-9_.:\-\[\]]{1,60}")
_MOST_TOLD = 30


async def read_body(request: Request, kind: type[F]) -> F:
    """Read a request's JSON. Clients such as curl send it under other content types.

    Raises InvalidRequest, EncodedBody, and ClientLeft.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise EncodedBody(f"the body is encoded as {encoding[:40]!r}; send it as it is")
    with leaving():
        data = await request.body()
    return parse_body(data, kind)


@contextmanager
def leaving() -> Iterator[None]:
    """Raise ClientLeft where the client closes its connection before its request is whole."""
    try:
        yield
    except ClientDisconnect:
        raise ClientLeft("request canceled") from None


def parse_body(data: bytes, kind: type[F]) -> F:
    """Read JSON as the fields of one kind; raises InvalidRequest that names the first field that is wrong."""
    if not data.strip():
        raise InvalidRequest("missing request body")
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except UnicodeEncodeError:
        raise InvalidRequest("the JSON holds half of a surrogate pair, which is no character") from None
    except ValueError as error:
        raise InvalidRequest(f"invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        field, message = _first_problem(error, value)
    raise InvalidRequest(f"{field}: {message}" if field else message, field=field or None)


def _first_problem(error: ValidationError, value: object) -> tuple[str, str]:
    """Return the first field that is wrong and what it may be, all the kinds that it may be of."""
    found: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        path, inner = [], value
        for part in problem["loc"]:
            is_there = part in inner if isinstance(inner, dict) else isinstance(part, int)
            if is_there and isinstance(inner, dict | list):
                inner = inner[part]  # type: ignore[index]  # pydantic's own path
            elif problem["type"] != "missing":
                break  # what follows names a kind that the field might have been of
            path.append(str(part))
        found.setdefault(".".join(path), []).append(problem["msg"])
    field, said = next(iter(found.items()))
    return field, _rule(list(dict.fromkeys(said)))


def _rule(said: list[str]) -> str:
    """Return what a field must be, from what pydantic says of each kind that it might have been of."""
    kinds = [text.removeprefix("Input should be ") for text in said]
    if kinds == ["Field required"]:
        return "is missing"
    if kinds[0] == said[0]:
        return kinds[0][:1].lower() + kinds[0][1:]
    return "must be " + " or ".join([kinds[0], *(kind.removeprefix("a valid ") for kind in kinds[1:])])


def told(ignored: Iterable[str], notes: Iterable[str] = ()) -> dict[str, str]:
    """Return the headers that say which fields had no effect, and what was decided of the others."""
    names = [name if _TELLABLE.fullmatch(name) else "?" for name in ignored]
    if len(names) > _MOST_TOLD:
        names[_MOST_TOLD:] = ["..."]
    found = {"X-Mull-Ignored": ",".join(names), "X-Mull-Note": "; ".join(notes)}
    # A header's bytes are printable ASCII, whatever a note quotes.
    return {
        name: "".join(c if " " <= c <= "~" else "?" for c in text)[:2000]
        for name, text in found.items()
        if text
    }


def described(kind: type[Fields]) -> dict[str, object]:
    """Return how OpenAPI describes a body of this kind."""
    whole = kind.model_json_schema(by_alias=True)
    schema = _inlined(whole, whole.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: object, parts: Mapping[str, object], within: tuple[str, ...] = ()) -> object:
    """Put named parts where they are referred to: a reference would be looked for at the document's root."""
    if isinstance(schema, list):
        return [_inlined(one, parts, within) for one in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if name in parts:
        # A part within itself may be anything there.
        return {} if name in within else _inlined(parts[name], parts, (*within, name))
    return {key: _inlined(value, parts, within) for key, value in schema.items()}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
