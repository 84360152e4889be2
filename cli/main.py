"""The command line's entry: runs a command, and is the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ..errors import MullError
from .signals import INTERRUPTED, SIGNALLED, end_anywhere, end_in_order, ending_at_once

USAGE, NO_READER = 2, 141
"""Exit codes: a wrong command line, and what a shell reports for SIGPIPE."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    end_in_order()
    code = 0
    try:
        try:
            code = _start()
        except KeyboardInterrupt:
            code = INTERRUPTED
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_output()
        code = NO_READER
    except OSError as error:
        _abandon_output()
        code = code or _fail(_reason(error))
    end_anywhere()
    if code in SIGNALLED:
        # A second signal may have come before the engine's thread ended, and Python's own end aborts
        # a thread in the midst of C++.
        os._exit(code)
    sys.exit(code)


def run_command(args: list[str], name: str = "llm") -> int:
    """Run a command line and return its exit code; errors of ours and of usage are lines on stderr.

    Raises BrokenPipeError when nobody reads the output any more.
    """
    with ending_at_once():
        import typer
        from typer._click.exceptions import UsageError

        from .commands import build_group, explain
        from .think_options import spell_out

    try:
        group = build_group()
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        if args[:1] in (["run"], ["chat"]):
            args = spell_out(args)
        with group.make_context(name, args or ["--help"]) as context:
            group.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except UsageError as error:
        return _fail(*explain(error), code=USAGE)
    except MullError as error:
        return _fail(error.message, error.hint, code=error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(_reason(error))
    except MemoryError:
        return _fail("out of memory", "a smaller model, or a smaller --num-ctx")
    except (KeyboardInterrupt, ImportError, RuntimeError, SystemError) as error:
        # An interrupt in the midst of an import may come out as that import's failure.
        if not _was_interrupted(error):
            raise
        return INTERRUPTED
    return 0


def _start() -> int:
    _prepare_streams()
    from ..settings import load_settings
    from .clash import note_clash

    note_clash(load_settings().state_dir, sys.path)
    return run_command(sys.argv[1:], os.path.basename(sys.argv[0]) or "llm")


def _prepare_streams() -> None:
    """Put something in the place of closed streams, and let no character be impossible to print."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _fail(message: str, hint: str | None = None, *, code: int = 1) -> int:
    from ..settings import load_settings
    from .terminal import Terminal

    Terminal.detect(color=load_settings().color).complain(message, hint)
    return code


def _reason(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _was_interrupted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _abandon_output() -> None:
    """Send what is still buffered nowhere, so that Python's own flush at exit cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    main()
