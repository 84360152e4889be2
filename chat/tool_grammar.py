"""What holds a reply to its format and to its tools: the grammar of a request, for one model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..runtime.grammar.constraint import Constraint
from .request import ChatRequest
from .session import Session
from .tool_calls.calls import offered
from .tool_calls.grammar import CallGrammar, required, triggered
from .tools import checked, is_forced

if TYPE_CHECKING:
    from ..runtime.grammar.engine import CompiledGrammar, GrammarEngine

_UNKNOWN = "tool_choice is not enforced: how calls of this model are forced is not known"
_FORMAT_WINS = "a format for the whole answer leaves no room for calls of tools"


def grammar_for(
    request: ChatRequest, session: Session, grammars: GrammarEngine
) -> tuple[CompiledGrammar | None, tuple[str, ...]]:
    """Return what a reply must keep to, None for nothing, and what the user should know of that.

    A call that must come is held to its syntax and schema from the answer's beginning, one that may come from where it
    begins; beside a format of JSON, a reply is either. Raises InvalidRequest for a format or a choice of tool that
    makes no sense; what a tool's schema asks beyond what can be enforced is left out, and noted.
    """
    request = checked(request)
    forced = is_forced(request)
    instead = None
    if request.format is not None and not forced:
        if not request.tools or request.raw is not None:
            return grammars.compile(request.format), ()
        instead = None if session.family.header_begins else _json_of(request.format)
        if instead is None or not session.syntax.is_writable:
            return grammars.compile(request.format), (_FORMAT_WINS,)
    if not request.tools or request.raw is not None:
        return None, ()
    tools = [tool for tool in request.tools if request.forced_tool in (None, offered(tool)[0])]
    several = request.parallel_tool_calls and request.forced_tool is None
    write = triggered
    if forced or instead is not None:
        write = partial(required, instead=instead)
    for loose in (False, True):
        given = [_loose(offered(tool)[0]) for tool in tools] if loose else tools
        made = write(session.syntax, given, session.spell, several=several)
        if made is None:
            return None, (_UNKNOWN,) if forced else ()
        try:
            return _compiled(made, grammars), (*made.notes, *(_dropped(loose=loose)))
        except InvalidRequest as error:
            reason = error.message
    return None, (f"calls of tools are not enforced: {reason}",)


def _json_of(form: Constraint) -> str | None:
    """Return the schema of a format that is JSON."""
    from ..runtime.grammar.library import json_rule

    return json_rule(form)


def _compiled(made: CallGrammar, grammars: GrammarEngine) -> CompiledGrammar:
    compiled = grammars.compile(made.constraint)
    return compiled if made.trigger is None else compiled.after(made.trigger, once=made.once)


def _loose(name: str) -> dict[str, object]:
    return {"name": name, "parameters": {"type": "object"}}


def _dropped(*, loose: bool) -> tuple[str, ...]:
    return ("the schemas of the tools are not enforced: together they are too much",) if loose else ()
