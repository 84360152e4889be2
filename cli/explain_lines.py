"""An explanation as lines for people: sections of names and values, as narrow as the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from ..chat.options import SELDOM
from .explained import Context, Explanation, Memory, Setting, TemplateFacts, Thoughts, Token, Tools
from .formats import human_bytes, printable

_INDENT = 4
_NAMES = 18  # columns of the names, where there is room
_FIRST, _LAST = 48, 16  # tokens of a long prompt that are shown
_SOURCES = {
    "flag": "the command line",
    "session": "the conversation",
    "modelfile": "the Modelfile",
    "model": "the model's own",
    "memory": "what fits into memory",
}
_TEMPLATES = {
    "modelfile": "the Modelfile's TEMPLATE",
    "gguf": "the GGUF's tokenizer.chat_template",
    "none": "none: messages' texts follow one another",
}

Rows = list[tuple[str, str]]


def explanation_lines(found: Explanation, width: int, *, verbose: bool, wrap: bool) -> list[str]:
    """Return all sections; wrap: lines of the prompt are cut to the width too."""
    sections: list[tuple[str, Rows]] = [
        ("Model", _model(found)),
        ("Settings", _settings(found.settings, verbose=verbose)),
        ("Template", _template(found.template, verbose=verbose)),
        ("Thinking", _thinking(found.thinking)),
        ("Tools", _tools(found.tools)),
        ("Ends a reply", _stops(found)),
        ("Context", _context(found.context)),
        ("Memory", _memory(found.memory)),
        ("Notes", [("", note) for note in found.notes]),
    ]
    lines = []
    for title, rows in sections:
        if rows:
            lines += [f"  {title}", *_laid_out(rows, width), ""]
    if found.prompt is not None:
        count = len(found.prompt.tokens)
        lines += [f"  Prompt ({count} {'token' if count == 1 else 'tokens'})"]
        lines += [*_text(found.prompt.text, width if wrap else None), ""]
        lines += [
            "  Tokens (in quotes: text; else control)",
            *_tokens(found.prompt.tokens, width, verbose),
            "",
        ]
    return lines


def _model(found: Explanation) -> Rows:
    return [
        ("name", found.model),
        ("file", found.path),
        ("architecture", f"{found.architecture} {found.quantization}".strip()),
        ("computes with", found.kernels.description),
        ("kept packed", ", ".join(found.kernels.kept) or "nothing"),
    ]


def _settings(settings: Iterable[Setting], *, verbose: bool) -> Rows:
    """Return settings with their sources; those that are off by default only where all are wanted."""
    rows = []
    for one in settings:
        off = one.value in (None, False, [], {}) or one.name in SELDOM
        if verbose or not (one.source == "default" and off):
            rows.append((one.name, f"{_written(one.value)} ({one.source})"))
    return rows


def _template(found: TemplateFacts, *, verbose: bool) -> Rows:
    rows = [("from", _TEMPLATES.get(found.source, found.source))]
    if found.language != "none":
        rows.append(
            ("language", f"{'Go' if found.language == 'go' else 'Jinja'}, {_count(found.lines, 'line')}")
        )
    if found.error is not None:
        rows.append(("broken", found.error))
    rows.append(("family", f"{found.family}: {'; '.join(found.reasons)}"))
    if verbose and found.reads:
        rows.append(("variables", ", ".join(found.reads)))
    return rows


def _thinking(found: Thoughts) -> Rows:
    if not found.can_think:
        return [("", "this model has no marks of thoughts: it does not think")]
    rows = [("asked for", found.mode)]
    if found.tags is not None:
        opened = "; the prompt ends within one" if found.opened else ""
        rows.append(("between", f"{found.tags[0]} and {found.tags[1]}{opened}"))
    if found.passed:
        told = ", ".join(f"{name}={_written(value)}" for name, value in found.passed.items())
        rows.append(("template is told", told))
    if not found.enforced:
        rows.append(("limits", "none are enforced"))
    else:
        rows += _limits(found)
    if found.history is not None:
        rows.append(("earlier thoughts", _HISTORIES[found.history]))
    return [*rows, *(("note", note) for note in found.notes)]


_HISTORIES = {
    "strip": "taken out of the prompt",
    "last": "those of the last turn stay in the prompt",
    "keep": "stay in the prompt",
}


def _limits(found: Thoughts) -> Rows:
    if not found.budget:
        return [("budget", "0: a thought that begins all the same is ended at once")]
    own = (
        "nothing but the room for the answer limits it"
        if found.requested is None
        else f"asked: {found.requested}"
    )
    rows = [("budget", f"{_count(found.budget, 'token')} of the {found.window} left ({own})")]
    if found.soft != found.hard:
        rows.append(("enforced", f"from {found.soft} an end is favoured where a sentence ends"))
        rows.append(("", f"from {found.landing} the first such place ends it"))
    rows.append(("" if len(rows) > 1 else "enforced", f"at {found.hard} it is cut"))
    rows.append(("words put in", _quoted(found.message + found.closes)))
    if found.minimum:
        said = ", ".join(map(_quoted, found.waits))
        rows.append(
            ("at least", f"{found.minimum}; an earlier end is answered {found.rounds} times with {said}")
        )
    rows.append(("in circles", f"ended after {found.loop} repeats" if found.loop else "not looked for"))
    if found.exit is not None:
        rows.append(("ended early", f"at a confidence of {found.exit:g} in the answer"))
    return rows


def _tools(found: Tools) -> Rows:
    if found.syntax is None:
        return [("", "none: there is no template")]
    calls = {0: "as text", 1: "one a message"}.get(found.calls, "any number a message")
    return [
        ("described", found.described),
        ("calls", f"{found.syntax}, {calls}" + ("" if found.forced else ", cannot be enforced")),
        ("results", "by the template" if found.results else "as a user's message"),
    ]


def _stops(found: Explanation) -> Rows:
    tokens = ", ".join(f"{token.id} {printable(token.text)}" for token in found.stop.tokens)
    rows = [("tokens", tokens or "none")]
    return [*rows, ("texts", ", ".join(map(_quoted, found.stop.texts)))] if found.stop.texts else rows


def _context(found: Context) -> Rows:
    return [
        ("length", f"{found.length} ({_SOURCES[found.source]})"),
        ("model's own", str(found.own)),
        ("prompt", f"{found.prompt}, which leaves {found.left}"),
    ]


def _memory(found: Memory) -> Rows:
    weights = f"{human_bytes(found.weights)} ({human_bytes(found.file)} in the file)"
    if found.unpacked_at_each_use:
        weights += ", unpacked at each use"
    return [
        ("weights", weights),
        ("KV cache", f"{human_bytes(found.cache)} ({human_bytes(found.cache_per_token)} a token)"),
        (
            "free now",
            f"{human_bytes(found.free)}, of which {human_bytes(found.reserve)} are left to compute in",
        ),
    ]


def _laid_out(rows: Rows, width: int) -> list[str]:
    """Return names beside values, which go on below themselves."""
    column = min(max(len(name) for name, _ in rows), _NAMES, max(width // 3, 1))
    column += 2 if column else 0
    room = max(width - _INDENT - column, 8)
    lines = []
    for name, value in rows:
        wrapped = textwrap.wrap(printable(value), room, break_on_hyphens=False) or [""]
        parts = [piece for line in wrapped for piece in _chopped(line, room)]
        if len(name) > column - 2:
            lines.append(" " * _INDENT + name)
            name = ""
        for part in parts:
            lines.append((" " * _INDENT + name.ljust(column) + part).rstrip())
            name = ""
    return lines


def _text(text: str, width: int | None) -> list[str]:
    """Return a text's lines, those that are too long in pieces."""
    room = None if width is None else max(width - _INDENT, 8)
    lines = []
    for line in text.split("\n"):
        safe = printable(line)
        pieces = [safe] if room is None else _chopped(safe, room)
        lines += [" " * _INDENT + piece for piece in pieces]
    return lines


def _tokens(tokens: Sequence[Token], width: int, verbose: bool) -> list[str]:
    """Return ids and pieces, as many in a line as fit; of a long prompt its two ends."""
    shown: list[str] = [
        f"{one.id} {printable(one.text) if one.control else _quoted(one.text)}" for one in tokens
    ]
    left_out = len(shown) - _FIRST - _LAST
    if left_out > 0 and not verbose:
        shown[_FIRST:-_LAST] = [f"... {left_out} more (--verbose) ..."]
    from rich.cells import cell_len

    room, lines = max(width - _INDENT, 8), [""]
    for item in shown:
        joined = f"{lines[-1]}  {item}" if lines[-1] else item
        if cell_len(joined) > room and lines[-1]:
            lines.append(item)
        else:
            lines[-1] = joined
    return [" " * _INDENT + piece for line in lines for piece in _chopped(line, room)]


def _chopped(text: str, room: int) -> list[str]:
    """Cut a line into pieces of so many columns."""
    from rich.cells import chop_cells

    return chop_cells(text, room) or [""]


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _quoted(text: str) -> str:
    return f"'{printable(text)}'"


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(_quoted(item) if isinstance(item, str) else str(item) for item in value) or "none"
    if isinstance(value, str):
        return value if value and value == value.strip() and value.isprintable() else _quoted(value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
