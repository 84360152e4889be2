"""The table of commands and the group that lists them all and imports only the one that is used."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

import typer
from typer._click.exceptions import BadParameter, NoSuchOption, UsageError
from typer.core import TyperCommand, TyperGroup

from .signals import ending_at_once

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter, Parameter

HELP = """Run open-weights language models on this machine.

\b
Examples:
  llm run pocket "What is 347 + 685?"
  cat notes.txt | llm run ./qwen3.gguf "summarise"
  llm create mymodel -f Modelfile
  llm list
"""

COMMANDS = {
    "run": "Ask a model, or chat with it.",
    "chat": "Talk to a model, and go on with what was said before.",
    "history": "List, search, show, export and remove conversations.",
    "serve": "Answer other programs: Ollama's, OpenAI's and Anthropic's APIs.",
    "ps": "List the models that a server has in memory.",
    "stop": "Have a server let go of a model.",
    "create": "Make a model from a Modelfile.",
    "pull": "Get models.",
    "push": "Send a model to a registry.",
    "search": "Search Hugging Face for models.",
    "fit": "Tell what a model takes here, before it is downloaded.",
    "outdated": "Show which models are newer where they came from.",
    "list": "List the models on this machine (also: ls).",
    "show": "Show what a model is.",
    "explain": "Show where every setting comes from, and the prompt.",
    "rm": "Remove models.",
    "cp": "Give a model a second name.",
    "verify": "Check that models are whole.",
    "repair": "Replace what is damaged of models.",
    "du": "Show what takes room.",
    "prune": "Delete what no model needs.",
    "tokenize": "Turn a text into token ids, or back.",
    "perplexity": "Measure how well a model predicts a text.",
    "compare": "Measure what a model lost against another.",
    "imatrix": "Measure how a model uses its weights.",
    "think": "Show how models think, and how budgets were used.",
    "bench": "Measure a model's speed.",
    "quantize": "Write a model with fewer bits per weight.",
    "version": "Print the version.",
}
"""Each command with its line in `llm --help`; the module of the same name holds its function `command`."""

ALIASES = {"ls": "list"}

# Options of `llm run` by the names that llama.cpp, Ollama and others give them.
_ELSEWHERE = {
    "ctx-size": "--num-ctx",
    "dynatemp-exp": "--dynatemp-exponent",
    "max-tokens": "--num-predict",
    "mirostat-ent": "--mirostat-tau",
    "mirostat-lr": "--mirostat-eta",
    "n-predict": "--num-predict",
    "predict": "--num-predict",
    "reverse-prompt": "--stop",
    "sampler-seq": "--samplers",
    "sampling-seq": "--samplers",
    "temp": "--temperature",
    "top-nsigma": "--top-n-sigma",
    "typical": "--typical-p",
}


class PlainCommand(TyperCommand):
    """A command whose help shows its options under the headings that they were declared with."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the arguments; what is wrong with them says which command's help tells more."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return `[OPTIONS] MODEL [PROMPT]`: what must be given without braces."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the parameters under their headings, those without a heading of their own first and last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(_heading(parameter), []).append(record)
        others = sections.pop("Options", None)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if others:
            with formatter.section("Other options" if len(sections) > 1 else "Options"):
                formatter.write_dl(others)


class NoSuchCommand(UsageError):
    """A word where a command is expected, and is none."""

    def __init__(self, name: str, ctx: Context) -> None:
        super().__init__(f"no such command '{name}'", ctx)
        self.name = name


class LazyGroup(TyperGroup):
    """The commands of COMMANDS, each imported when it is used."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names without importing anything."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Import a command; None if there is none of this name."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        with ending_at_once():
            module = import_module(f".{name}", __package__)
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(name, cls=PlainCommand)(module.command)
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command that the first argument names; raises NoSuchCommand."""
        found = self.get_command(ctx, args[0])
        if found is None:
            raise NoSuchCommand(args[0], ctx)
        return args[0], found, args[1:]

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def build_group() -> LazyGroup:
    """Return the root of the command line."""
    version = typer.core.TyperOption(
        param_decls=["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_print_version,
        help="Print the version and exit.",
    )
    return LazyGroup(
        name="llm",
        help=HELP,
        params=[version],
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def explain(error: UsageError) -> tuple[str, str]:
    """Return the message and the hint of a wrong command line, with the nearest name that exists."""
    hint = f"{error.ctx.command_path if error.ctx else 'llm'} --help"
    message = error.format_message().rstrip(".")
    near: list[str] = []
    if isinstance(error, NoSuchCommand):
        near = get_close_matches(error.name, [*COMMANDS, *ALIASES], n=1)
    elif isinstance(error, NoSuchOption):
        message = f"no such option {error.option_name}"
        near = _nearest_option(error.option_name.lstrip("-"), _option_names(error.ctx))
    elif isinstance(error, BadParameter) and error.message and error.param and error.ctx:
        where = error.param.get_error_hint(error.ctx).replace("'", "")
        message = f"{where}: {_in_words(error.message.rstrip('.'))}"
    return message[:1].lower() + message[1:], f"did you mean {near[0]}? ({hint})" if near else hint


def _nearest_option(name: str, options: list[str]) -> list[str]:
    """Return the option that was meant: one that begins so, one of another program's name, one spelt alike."""
    if _ELSEWHERE.get(name) in options:
        return [_ELSEWHERE[name]]
    words = [option.lstrip("-") for option in options]
    begun = [word for word in words if len(name) > 2 and word.startswith(name)]
    return ["--" + word for word in begun[:1] or get_close_matches(name, words, n=1, cutoff=0.7)]


def _in_words(message: str) -> str:
    """Say what typer's types are called outside of programs."""
    for theirs, ours in (("valid int", "whole number"), ("valid float", "number")):
        for theirs_in_full in (f"{theirs} range", f"{theirs}eger", theirs):
            message = message.replace(theirs_in_full, ours)
    return message


def _print_version(ctx: Context, parameter: Parameter, is_set: bool) -> None:
    if is_set and not ctx.resilient_parsing:
        from .version import command

        command()
        raise typer.Exit


def _heading(parameter: Parameter) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or "Options"


def _option_names(ctx: Context | None) -> list[str]:
    return [name for parameter in ctx.command.get_params(ctx) for name in parameter.opts] if ctx else []
