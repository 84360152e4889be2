"""Write docs/cli.md, the reference of the command line, from what every command's --help prints.

Run it as `python docs/write_cli.py`; a test fails while the page differs from it.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import typer
from mull.cli.commands import COMMANDS, build_group

PAGE = Path(__file__).with_name("cli.md")
_WIDTH = 78  # what a terminal of 80 columns shows

_HEAD = """\
# The command line

<!-- Written by docs/write_cli.py from every command's --help; edit the commands, not this page. -->

The program is called `llm`, and also `mull`: the same program, for environments where another package owns the
name `llm`.

**What MODEL means.** A name of the model store, such as `pocket` or `qwen3:8b`; a GGUF file; or a folder of
safetensors. A name of the store wins over a file of the same name. What begins with `.`, `/` or `~`, or ends in
`.gguf` or `.safetensors`, is always a path.

**Where output goes.** Answers, tables and JSON go to stdout. Thoughts, progress, notes and errors go to stderr.
An error is one line `error:`, often followed by one line `hint:`.

**Exit codes.** 0 success; 1 an error; 2 a wrong command line; 130 ended by Ctrl-C; 141 nobody reads the output;
143 and 129 ended by SIGTERM and SIGHUP.

**Environment.** `MULL_MODELS` is the folder of the model store (by default `mull/models` below `$XDG_DATA_HOME`,
which is `~/.local/share` if unset). Any value of `NO_COLOR` switches colour and dimming off.
"""


def help_of(*words: str) -> str:
    """Return what `llm WORDS --help` prints."""
    printed = io.StringIO()
    group = build_group()
    with redirect_stdout(printed):
        try:
            with group.make_context("llm", [*words, "--help"], terminal_width=_WIDTH) as context:
                group.invoke(context)
        except typer.Exit:
            pass
    return "\n".join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())


def render() -> str:
    """Return the whole page."""
    parts = [_HEAD, f"```text\n{help_of()}\n```\n"]
    parts += [f"## llm {name}\n\n```text\n{help_of(name)}\n```\n" for name in COMMANDS]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
