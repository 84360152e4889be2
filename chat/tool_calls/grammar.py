"""Grammars of tool calls: that a reply must be one, or what one must look like once it begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...runtime.grammar.constraint import Constraint
from .calls import offered
from .syntax import Syntax
from .types import Schema

_MOST_CALLS = 8  # of one reply that must be calls; a model that repeats itself would never end
_LONGEST_NOTE = 3

# A text as a grammar has it: runs of letters, and the ids of the tokens that are no letters.
Spell = Callable[[str], Sequence[str | int]]


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """A grammar of calls.

    trigger: the text after which it holds, None where that is the answer's beginning; once: the answer ends with it;
    notes: what of the tools' schemas it does not enforce.
    """

    constraint: Constraint
    trigger: str | None = None
    once: bool = False
    notes: tuple[str, ...] = ()


def required(
    syntax: Syntax,
    tools: Sequence[Mapping[str, object]],
    spell: Spell,
    *,
    several: bool,
    instead: str | None = None,
) -> CallGrammar | None:
    """Return the grammar of a reply that is nothing but calls of these tools; None if this syntax has none.

    spell: how the vocabulary spells the syntax's texts; several: there may be more calls than one; instead: a schema
    of JSON that the reply may be instead.
    """
    if syntax.frame is None or not syntax.is_writable:
        return None
    rules = _Rules(spell)
    frame = syntax.frame
    calls = rules.alternatives(syntax, tools)
    more = (
        f"({rules.text(frame.between)} {calls}){{0,{_MOST_CALLS - 1}}}" if several and frame.several else ""
    )
    start = f"{rules.text(frame.before)} {calls} {more} {rules.text(frame.after)}"
    if instead is not None:
        start = f"({start}) | answer\nanswer: %json {instead}"
    return CallGrammar(rules.constraint(start), notes=tuple(rules.notes))


def triggered(
    syntax: Syntax, tools: Sequence[Mapping[str, object]], spell: Spell, *, several: bool
) -> CallGrammar | None:
    """Return the grammar of what follows the text that begins a call; None if this syntax has none."""
    frame = syntax.frame
    if frame is None or not syntax.is_writable or syntax.in_prompt:
        return None
    trigger = syntax.opens[0]
    if not frame.before.startswith(trigger):
        return None
    rules = _Rules(spell)
    calls = rules.alternatives(syntax, tools)
    # Where each call begins with the trigger, the next is another's matter.
    again = several and frame.several and trigger not in frame.between
    more = f"({rules.text(frame.between)} {calls})*" if again else ""
    start = f"{rules.text(frame.before[len(trigger) :])} {calls} {more} {rules.text(frame.after)}"
    return CallGrammar(rules.constraint(start), trigger, not several, tuple(rules.notes))


class _Rules:
    """The rules of one grammar in llguidance's Lark."""

    def __init__(self, spell: Spell) -> None:
        self.notes: list[str] = []
        self._spell = spell
        self._lines: dict[str, str] = {}  # a rule's text -> its name
        self._tool = ""

    def text(self, text: str) -> str:
        """Return the expression of exactly this text."""
        parts = (f"<[{part}]>" if isinstance(part, int) else _literal(part) for part in self._spell(text))
        return " ".join(parts)

    def json(self, schema: Schema, root: Schema) -> str:
        """Return the expression of a JSON value of a schema."""
        from ...runtime.grammar.library import lenient_json

        found = dict(schema)
        if schema is root:
            found = _closed(found)
        else:
            found.update({key: root[key] for key in ("$defs", "definitions") if key in root})
        text, dropped = lenient_json(json.dumps(found, ensure_ascii=False, default=str))
        if dropped:
            some = ", ".join(dropped[:_LONGEST_NOTE]) + (" …" if len(dropped) > _LONGEST_NOTE else "")
            note = f"the schema of the tool {self._tool!r} is not enforced in full: {some}"
            self.notes += [] if note in self.notes else [note]
        return self._rule("json", f": %json {text}")

    def up_to(self, close: str) -> str:
        """Return the expression of any text up to this one, and this one."""
        spelled = self._spell(close)
        if len(spelled) == 1 and isinstance(spelled[0], str):
            return self._rule("text", f"[suffix={_literal(close)}]: /(?s:.*)/")
        return f"{self.regex('(?s:.*)')} {self.text(close)}"

    def regex(self, pattern: str) -> str:
        """Return the expression of a text that an expression describes."""
        return self._rule("part", f": /{pattern}/")

    def alternatives(self, syntax: Syntax, tools: Sequence[Mapping[str, object]]) -> str:
        """Return the expression of a call of any of the tools."""
        cases = []
        for name, schema in map(offered, tools):
            self._tool = name
            cases.append(self._rule("call", f": {syntax.expression(self, name, schema)}"))
        return self._rule("calls", f": {' | '.join(dict.fromkeys(cases))}")

    def constraint(self, start: str) -> Constraint:
        """Return the whole grammar."""
        lines = [f"{name}{text}" for text, name in self._lines.items()]
        return Constraint("lark", "\n".join([f"start: {start}", *lines]))

    def _rule(self, kind: str, text: str) -> str:
        return self._lines.setdefault(text, f"{kind}{len(self._lines)}")


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _closed(schema: dict[str, object]) -> dict[str, object]:
    """Return the schema of a tool's arguments: an object, with no other keys where it says nothing of others."""
    made: dict[str, object] = {**schema, "type": "object"}
    if "properties" in made and not any(key in made for key in ("anyOf", "oneOf", "allOf", "$ref")):
        made.setdefault("additionalProperties", False)
    return made
