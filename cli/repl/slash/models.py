"""Commands about the model: what it is, another one, and this conversation as one."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import InvalidRequest
from ...formats import printable
from ..completion import files, models, words_of
from ..model import PARTS
from .command import Command, wrong_usage

if TYPE_CHECKING:
    from ..app import Repl

NOT_IN_MODELFILES = ("ignore_eos", "logit_bias")
_NOTHING = {
    "license": "no license is known",
    "system": "there is no system message",
    "template": "there is no template",
    "parameters": "the Modelfile sets no parameters",
}
_SHOW = tuple(
    (f"/show {part}", f"Show the {part} of the model.")
    for part in PARTS
    if part not in ("info", "parameters")
)


def _show(repl: Repl, argument: str) -> None:
    """Print a part of what is known of the model."""
    part = argument.lower() or "info"
    if part not in PARTS:
        near = difflib.get_close_matches(part, PARTS, n=1)
        raise InvalidRequest(
            f"there is no /show {argument}",
            hint=f"did you mean /show {near[0]}?" if near else f"one of {', '.join(PARTS)}",
        )
    own = repl.chat.setup
    text = own.system or "" if part == "system" and own.system else repl.chat.model.show(part)
    if part == "parameters":
        set_here = [f"{name:<30} {value}" for name, value in own.options.items()]
        text = "\n".join(filter(None, [text, *(["set here:", *set_here] if set_here else [])]))
    repl.say(text.rstrip("\n") or _NOTHING.get(part, f"there is no {part}"))


def _load(repl: Repl, argument: str) -> None:
    """Open another model and begin a new conversation."""
    if not argument:
        raise wrong_usage("/load MODEL")
    repl.open_model(argument, None)
    repl.chat.setup.num_ctx = None
    kept = repl.chat.log.conversation
    had = bool(repl.chat.entries)
    repl.chat.clear()
    repl.note(f"{repl.chat.model.name} is loaded, and a new conversation begins")
    if had and kept is not None:
        repl.note(f"the one before is kept (/resume {kept})")


def _save(repl: Repl, argument: str) -> None:
    """Make a model of this one, what is set and what was said."""
    if not argument:
        raise wrong_usage("/save NAME")
    from ....registry.create import create
    from ....registry.modelfile import Command as Instruction
    from ....registry.modelfile import Modelfile
    from ....registry.name import ModelName
    from ....registry.store import Store
    from ....registry.target import find_target
    from ....settings import load_settings
    from ...create import inspect

    name = ModelName.parse(argument)
    chat = repl.chat
    target = find_target(chat.model.name)
    source = chat.model.name if target.entry is not None else str(target.path.absolute())
    lines: list[tuple[str, tuple[str, ...]]] = [("from", (source,))]
    if chat.setup.system is not None:
        lines.append(("system", (chat.setup.system,)))
    options = {**chat.setup.options, **({"num_ctx": chat.setup.num_ctx} if chat.setup.num_ctx else {})}
    for option, value in options.items():
        if option in NOT_IN_MODELFILES:
            repl.note(f"{option} is left out: a Modelfile cannot hold it")
            continue
        values = value if isinstance(value, list | tuple) else [value]
        lines += [("parameter", (option, str(one))) for one in values]
    before = target.contents.messages if target.contents is not None else ()
    said = [(entry.message.role, entry.message.content) for entry in chat.entries]
    lines += [("message", (role, content)) for role, content in (*before, *said)]
    modelfile = Modelfile(tuple(Instruction(word, args) for word, args in lines))
    create(Store(load_settings().models_dir), name, modelfile, base=Path.cwd(), inspect=inspect)
    repl.note(f"created {printable(name.short())}")


COMMANDS = (
    Command(
        "/show",
        "[PART]",
        "Show what the model is.",
        _show,
        words_of(*PARTS),
        (
            ("/show info", "Show details of the model."),
            ("/show parameters", "Show the parameters of the model, and those set here."),
            *_SHOW,
        ),
    ),
    Command(
        "/load",
        "MODEL",
        "Open another model and begin anew.",
        _load,
        lambda words: [*models(words), *files(words)] if len(words) == 1 else [],
    ),
    Command("/save", "NAME", "Make a model of this one, what is set and what was said.", _save),
)
