"""Reads what `--format` and `--grammar` name: a form written out, or a file that holds it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InvalidRequest
from ..runtime.grammar.constraint import Constraint, parse_format, parse_grammar, parse_schema
from .inputs import read_text

_WRITTEN_OUT = ("{", "regex:", "choice:")
_HINT = 'json, a file with a JSON schema, a schema as {…}, "regex:[0-9]+" or choice:yes,no'


def read_format(form: str | None, grammar: str | None) -> Constraint | None:
    """Return what the answer must look like, None where nothing was asked for.

    Raises InvalidRequest, also for most of what cannot be enforced, before a model is loaded.
    """
    found = _read(form, grammar)
    if found is not None:
        from ..runtime.grammar.library import library_grammar

        library_grammar(found)
    return found


def _read(form: str | None, grammar: str | None) -> Constraint | None:
    if form is not None and grammar is not None:
        raise InvalidRequest("--format and --grammar exclude each other", field="grammar")
    if grammar is not None:
        return parse_grammar(read_text(Path(grammar)), grammar)
    if form is None:
        return None
    if form.strip() == "json" or form.lstrip().startswith(_WRITTEN_OUT):
        return parse_format(form)
    path = Path(form)
    if not form.strip() or not os.path.exists(form):  # unlike Path, it takes any text
        raise InvalidRequest(f"{form!r} is neither a format nor a file", field="format", hint=_HINT)
    return parse_schema(read_text(path), path.name)
