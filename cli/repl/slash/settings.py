"""Commands that set how replies are made and shown."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ....chat.options import OPTIONS, from_user, our_defaults, sampling_params
from ....chat.thinking import THINK_OPTIONS, think_options
from ....errors import InvalidRequest, NotSupported
from ....registry.parameters import parse_parameter
from ...answer_format import read_format
from ..completion import files
from ..keys import without_quotes
from .command import Command, wrong_usage
from .models import NOT_IN_MODELFILES

if TYPE_CHECKING:
    from ..app import Repl

_LEVELS = ("auto", "on", "off", "minimal", "low", "medium", "high", "max")
_NAMES = ("num_ctx", *OPTIONS, *THINK_OPTIONS)


def _set(repl: Repl, argument: str) -> None:
    """Find what is to be set."""
    name, _, rest = argument.partition(" ")
    if not name:
        repl.table([(f"/set {usage}", summary) for usage, summary in _PARTS])
        return
    setter = _SETTERS.get(name.lower())
    if setter is None:
        near = difflib.get_close_matches(name.lower(), _SETTERS, n=1)
        meant = f"did you mean /set {near[0]}?" if near else "/? set tells what there is"
        raise InvalidRequest(f"there is no /set {name}", hint=meant)
    setter(repl, rest.strip())


def _parameter(repl: Repl, argument: str) -> None:
    """Set an option, or tell all of them and who set each."""
    words = argument.split()
    if not words:
        repl.table(_parameters(repl))
        return
    name, values = words[0], words[1:]
    if not values:
        raise wrong_usage("/set parameter NAME VALUE", f"{name} needs a value")
    if name == "num_ctx":
        _context(repl, values[0])
        return
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, n=1)
        raise InvalidRequest(
            f"unknown parameter '{name}'",
            hint=f"did you mean {near[0]}?" if near else "/set parameter lists them",
        )
    if name == "think":
        _think(repl, values[0])
        return
    value = _value(name, values)
    _check({**repl.chat.setup.options, name: value})
    repl.chat.setup.options[name] = value
    repl.chat.changed()
    repl.note(f"{name} is now {' '.join(values)}")


def _value(name: str, words: list[str]) -> object:
    """Read an option's value, as PARAMETER takes it; of those that it does not know, as JSON."""
    if name in ("stop", "dry_sequence_breakers"):
        return words
    text = " ".join(words)
    if name not in NOT_IN_MODELFILES:
        return parse_parameter(name, text)
    try:
        value = json.loads(text)
        return {int(token): bias for token, bias in value.items()} if isinstance(value, dict) else value
    except ValueError:
        raise InvalidRequest(f"{name} cannot be {text!r}") from None


def _context(repl: Repl, value: str) -> None:
    """Load the model again, with another context; the conversation stays."""
    from typer import BadParameter

    from ...options import parse_count

    try:
        size = parse_count(value)
    except BadParameter as error:
        raise InvalidRequest(error.message) from None
    if size < 1:
        raise InvalidRequest(f"the context must be at least 1 token, not {value}")
    repl.open_model(repl.chat.model.name, size)
    repl.chat.setup.num_ctx = size
    repl.chat.changed()
    repl.note(f"the context is now {repl.chat.model.context_length:,} tokens")


def _check(options: dict[str, object]) -> None:
    """Raise InvalidRequest for options that cannot be honoured."""
    think_options({name: value for name, value in options.items() if name in THINK_OPTIONS})
    own = {name: value for name, value in options.items() if name not in THINK_OPTIONS}
    sampling_params({**our_defaults(), **from_user(own, "request")})


def _parameters(repl: Repl) -> list[tuple[str, str]]:
    given = repl.chat.setup.options
    rows = [("num_ctx", f"{repl.chat.model.context_length}")]
    for name, sourced in repl.chat.model.defaults.items():
        if name in given:
            rows.append((name, f"{given[name]} (set here)"))
        elif sourced.source != "mull":
            rows.append((name, f"{sourced.value} ({sourced.source})"))
    rows += [(name, f"{value} (set here)") for name, value in given.items() if name in THINK_OPTIONS]
    return rows


def _system(repl: Repl, argument: str) -> None:
    """Set the system message, or tell it."""
    setup = repl.chat.setup
    if not argument:
        own = setup.system if setup.system is not None else repl.chat.model.show("system")
        repl.say(own or "there is no system message")
        return
    text = without_quotes(argument)
    if text == argument and len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    setup.system = text or None
    repl.chat.changed()
    repl.note("the system message is set" if text else "there is no system message of this chat's own")


def _think(repl: Repl, argument: str) -> None:
    """Set how much is thought, or tell it."""
    options = repl.chat.setup.options
    if not argument:
        repl.say(f"thinking: {options.get('think_budget', options.get('think', 'auto'))}")
        return
    value = argument.lower()
    wanted = {name: kept for name, kept in options.items() if name not in ("think", "think_budget")}
    if value != "auto":
        wanted["think"] = value
    asked = think_options({name: kept for name, kept in wanted.items() if name in THINK_OPTIONS})
    if asked.asks and not repl.chat.model.can_think:
        raise NotSupported("this model cannot think", hint="/load a model that can")
    repl.chat.setup.options = wanted
    repl.chat.changed()
    repl.note(f"thinking: {value}")


def _format(repl: Repl, argument: str) -> None:
    """Set what answers must look like, or tell it."""
    setup = repl.chat.setup
    if not argument:
        form = setup.format
        repl.say("answers are free" if form is None else f"{form.kind} {form.text}".strip())
        return
    setup.format = None if argument in ("off", "none") else read_format(argument, None)
    repl.chat.changed()
    repl.note("answers are free" if setup.format is None else "answers keep to that format")


def _overflow(repl: Repl, argument: str) -> None:
    if argument not in ("error", "oldest", "middle"):
        raise wrong_usage("/set overflow error|oldest|middle")
    repl.chat.setup.overflow = argument  # type: ignore[assignment]  # one of the three
    repl.chat.changed()
    repl.note(f"what does not fit into the context: {argument}")


def _keys(repl: Repl, argument: str) -> None:
    if argument not in ("vi", "emacs"):
        raise wrong_usage("/set keys vi|emacs")
    repl.prompt.vi = argument == "vi"
    repl.note(f"keys are {argument.capitalize()}'s")


def _flag(change: Callable[[Repl], None], note: str) -> Callable[[Repl, str], None]:
    """Return a setter that takes no value."""

    def setter(repl: Repl, argument: str) -> None:
        if argument:
            raise wrong_usage("it takes no value", f"{argument} means nothing here")
        change(repl)
        repl.note(note)

    return setter


def _set_wrap(wanted: bool) -> Callable[[Repl], None]:
    def change(repl: Repl) -> None:
        repl.screen.look.wrap = wanted

    return change


def _set_markdown(wanted: bool) -> Callable[[Repl], None]:
    def change(repl: Repl) -> None:
        repl.screen.look.markdown = wanted

    return change


def _set_history(wanted: bool) -> Callable[[Repl], None]:
    def change(repl: Repl) -> None:
        repl.prompt.remembers = wanted

    return change


def _set_verbose(wanted: bool) -> Callable[[Repl], None]:
    def change(repl: Repl) -> None:
        repl.verbose = wanted

    return change


def _set_format(repl: Repl, argument: str) -> None:
    _format(repl, argument or "json")


_SETTERS: dict[str, Callable[[Repl, str], None]] = {
    "parameter": _parameter,
    "system": _system,
    "history": _flag(_set_history(True), "what you type is remembered"),
    "nohistory": _flag(_set_history(False), "what you type is not remembered"),
    "wordwrap": _flag(_set_wrap(True), "lines are broken between words"),
    "nowordwrap": _flag(_set_wrap(False), "lines are broken by the terminal"),
    "markdown": _flag(_set_markdown(True), "Markdown is laid out"),
    "nomarkdown": _flag(_set_markdown(False), "answers are shown as they are"),
    "format": _set_format,
    "noformat": lambda repl, argument: _format(repl, "off"),
    "verbose": _flag(_set_verbose(True), "statistics are shown after each answer"),
    "quiet": _flag(_set_verbose(False), "no statistics are shown"),
    "think": lambda repl, argument: _think(repl, argument or "on"),
    "nothink": lambda repl, argument: _think(repl, "off"),
    "overflow": _overflow,
    "keys": _keys,
}
_PARTS = (
    ("parameter [NAME VALUE]", "Set an option, such as temperature or num_ctx; list them."),
    ("system [TEXT]", "Set the system message; show it."),
    ("history", "Remember what is typed."),
    ("nohistory", "Remember nothing of what is typed."),
    ("wordwrap", "Break lines between words."),
    ("nowordwrap", "Let the terminal break lines."),
    ("markdown", "Lay out Markdown."),
    ("nomarkdown", "Show answers as they are."),
    ("format [FORMAT]", "What answers must be: json, SCHEMA.json, {…}, regex:… or choice:a,b."),
    ("noformat", "Let answers be free."),
    ("verbose", "Show statistics after each answer."),
    ("quiet", "Show no statistics."),
    ("think [HOW]", "Think: on, a level, a number of tokens, or a share such as 50%."),
    ("nothink", "Do not think."),
    ("overflow error|oldest|middle", "What becomes of a conversation that is longer than the context."),
    ("keys vi|emacs", "Which keys edit what is typed."),
)


def _candidates(words: list[str]) -> list[str]:
    if len(words) == 1:
        return list(_SETTERS)
    following = {
        "parameter": _NAMES,
        "think": _LEVELS,
        "keys": ("vi", "emacs"),
        "overflow": ("error", "oldest", "middle"),
    }
    return list(following.get(words[0], ())) if len(words) == 2 else []


COMMANDS = (
    Command(
        "/set",
        "WHAT [VALUE]",
        "Set something for this chat.",
        _set,
        _candidates,
        tuple((f"/set {usage}", summary) for usage, summary in _PARTS),
    ),
    Command(
        "/think",
        "[N|off|on|auto|LEVEL|P%]",
        "How much to think, in tokens or in words.",
        _think,
        lambda words: _LEVELS if len(words) == 1 else (),
    ),
    Command("/system", "[TEXT]", "Set the system message, or show it.", _system),
    Command(
        "/format",
        "[FORMAT|off]",
        "What answers must be: json, a schema, regex:… or choice:a,b.",
        _format,
        files,
    ),
)
