"""`llm quantize`: a model in fewer bits, from GGUF or from safetensors."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from ..quant.load_types import BITSANDBYTES
from .options import check_threads, with_groups
from .quantize_flags import FileFlags, MixtureFlags
from .quantize_folder import check_flags, write_folder
from .quantize_goals import Goal, GoalFlags, TextFlags
from .quantize_run import Run
from .quantize_source import Opened, open_source
from .quantize_tables import plan_lines, type_entries, type_lines
from .terminal import Terminal

if TYPE_CHECKING:
    from ..quant.file_types import FileType

_IN_NAME = re.compile(r"[-._]((?:I?Q|TQ|MXFP|B?F)[0-9][0-9A-Z_]*)(?:-\d{5}-of-\d{5})?\.gguf", re.IGNORECASE)

_MIX, _FILES, _GOAL, _TEXT = MixtureFlags(), FileFlags(), GoalFlags(), TextFlags()


@with_groups
def command(
    source: Annotated[
        str | None, typer.Argument(metavar="SRC", help="A .gguf, a folder of safetensors, or a model's name.")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="DST", help="The file (or folder) to write.")
    ] = None,
    kind: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Such as Q4_K_M; --list shows them all.")
    ] = None,
    mixture: MixtureFlags = _MIX,
    goals: GoalFlags = _GOAL,
    text: TextFlags = _TEXT,
    files: FileFlags = _FILES,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", metavar="N", help="CPU threads; 0: one per core.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing.")] = False,
    list_types: Annotated[bool, typer.Option("--list", help="Print the types, for SRC if given.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")] = False,
) -> None:
    """Write a model with fewer bits per weight.

    Without TYPE the name of DST may say it (model-q4_k_m.gguf). COPY changes no tensor: it converts, splits,
    joins, or sets metadata. nf4, fp4 and int8 are bitsandbytes' types: DST is a folder then, for transformers.

    A size instead of TYPE makes the mixture that loses least. With --file, what rounding each group of matrices does
    to predictions is measured on the text; without, errors of the weights decide.

    \b
    Examples:
      llm quantize --list ./qwen3-8b-f16.gguf
      llm quantize ./qwen3-8b-f16.gguf ./q4_k_m.gguf --imatrix qwen3.imatrix
      llm quantize ./Qwen3-8B Q6_K --name qwen3:q6
      llm quantize ./qwen3.gguf out.gguf --target-size 5.2GB --file text.txt
      llm quantize ./qwen3-8b-f16.gguf out.gguf --fit 8GB:16K
      llm quantize ./qwen3.gguf out.gguf Q4_K_M --report --file text.txt
      llm quantize model.gguf Q4_K_M --tensor-type ffn_down=q6_k --dry-run
      llm quantize parts-00001-of-00003.gguf whole.gguf COPY
      llm quantize ./Qwen3-8B ./Qwen3-8B-nf4 nf4
    """
    if list_types:
        _list(source, target, as_json=as_json)
        return
    check_threads(threads)
    if source is None:
        raise InvalidRequest("what is to be quantized?", hint="llm quantize SRC DST TYPE")
    run = Run(mixture, files, Terminal.detect(color=False), threads, quiet=quiet or as_json)
    asked = Asked(*_sort_out(files, target, kind, dry_run=dry_run), goals.goal(), text)
    asked.check(dry_run=dry_run)
    if asked.kind is not None and asked.kind.lower() in BITSANDBYTES:
        check_flags(asked.kind.lower(), mixture, files, dry_run=dry_run or text != _TEXT)
        where, folder_type = asked.target, asked.kind.lower()
        written = write_folder(source, where, folder_type, run.terminal, threads, quiet=run.quiet)
    else:
        written = _to_gguf(source, run, asked, dry_run=dry_run, as_json=as_json)
    if as_json:
        print(json.dumps(written, indent=2))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be written, and where: a type or a goal for its size."""

    target: Path | None
    kind: str | None
    goal: Goal | None
    text: TextFlags

    def check(self, *, dry_run: bool) -> None:
        """Raise InvalidRequest for what goes against something else."""
        self.text.check(self.goal, dry_run=dry_run)
        if self.goal is not None and self.kind is not None:
            if not _is_type(self.kind):
                raise InvalidRequest(f"'{self.kind}' is no type, and a size needs none", field="type")
            raise InvalidRequest(
                f"{self.kind} and a size exclude one another", field="type", hint="leave out TYPE"
            )


def _to_gguf(source: str, run: Run, asked: Asked, *, dry_run: bool, as_json: bool) -> dict[str, object]:
    """Plan, and unless that is all, write and report; return what `--json` prints."""
    with open_source(source) as opened:
        if asked.goal is None:
            if asked.text.report and asked.text.file is not None:
                # Before the model is written: it would stand there, and the command have failed.
                _check_text(opened, asked.text.file)
            plan = run.plan(opened, _type(opened, asked.target, asked.kind))
        else:
            plan = run.find(opened, asked.goal, asked.text.file, asked.target, writes=not dry_run)
        if dry_run:
            if not as_json:
                print("\n".join(plan_lines(plan)))
            run.warn(plan)
            return run.as_json(plan)
        written = run.write(opened, plan, asked.target)
        if asked.text.report:
            written |= {"report": _report(source, opened, run, asked.text, as_json=as_json)}
    return written


def _check_text(opened: Opened, text: Path) -> None:
    """Raise InvalidRequest for a text that the model cannot be measured on."""
    from .quantize_trials import window_size

    window_size(opened.checkpoint, text)


def _report(source: str, opened: Opened, run: Run, text: TextFlags, *, as_json: bool) -> dict[str, object]:
    from .quantize_report import report

    return report(opened, (source, str(run.written)), text, run, as_json=as_json)


def _list(source: str | None, target: str | None, *, as_json: bool) -> None:
    if target is not None:
        raise InvalidRequest("--list takes one model", hint="llm quantize --list SRC")
    with ExitStack() as stack:
        model = stack.enter_context(open_source(source)).source if source else None
        entries = type_entries(model)
    print(json.dumps(entries, indent=2) if as_json else "\n".join(type_lines(entries)))


def _type(opened: Opened, target: Path | None, kind: str | None) -> FileType | None:
    """Return the type that is asked for, or that DST's name says; None for COPY."""
    from ..quant.file_types import ALIASES, COPY, FILE_TYPES, file_type

    if kind is not None:
        return None if kind.upper() == COPY else file_type(kind)
    named = _IN_NAME.search(target.name) if target else None
    if named and named[1].upper() in {**FILE_TYPES, **ALIASES}:
        return file_type(named[1])
    if opened.is_folder:
        return None
    raise InvalidRequest(
        "which type?", field="type", hint="llm quantize SRC DST Q4_K_M; --list shows the types"
    )


def _sort_out(
    files: FileFlags, target: str | None, kind: str | None, *, dry_run: bool
) -> tuple[Path | None, str | None]:
    """Tell DST and TYPE apart: with --name or --dry-run there may be no DST."""
    if kind is None and target is not None and _says_type(target, files, dry_run=dry_run):
        target, kind = None, target
    if target is not None and kind is not None and _is_type(target) and not _is_type(kind):
        raise InvalidRequest(f"'{kind}' is no type", hint=f"TYPE comes last: SRC {kind} {target}")
    if files.name is not None and target is not None:
        raise InvalidRequest("a DST and --name exclude one another", hint=f"without {target}")
    if target is None and not dry_run and files.name is None:
        raise InvalidRequest("where is the model to be written?", hint="a file as DST, or --name NAME")
    return None if target is None else Path(target).expanduser(), kind


def _says_type(word: str, files: FileFlags, *, dry_run: bool) -> bool:
    """Tell whether the only word after SRC is TYPE."""
    return _is_type(word) or files.name is not None or (dry_run and not word.endswith(".gguf"))


def _is_type(word: str) -> bool:
    from ..quant.file_types import ALIASES, COPY, FILE_TYPES

    return word.upper() in {*FILE_TYPES, *ALIASES, COPY} or word.lower() in BITSANDBYTES
