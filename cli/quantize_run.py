"""One call of `llm quantize`: plans, checks, writes and reports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..registry.name import ModelName
from .formats import human_bytes, printable
from .progress import BYTES, ProgressLine, clock_text
from .quantize_flags import FileFlags, MixtureFlags
from .quantize_source import Opened, check_target
from .quantize_tables import coverage_note, fallback_note, plan_json
from .terminal import Terminal

if TYPE_CHECKING:
    from ..models.checkpoint.gguf_values import Value
    from ..models.quantize import Plan
    from ..quant.file_types import FileType
    from ..quant.imatrix import ImportanceMatrix
    from .quantize_goals import Goal
    from .quantize_target import Found, Search


class Run:
    """One call of the command."""

    def __init__(
        self,
        mixture: MixtureFlags,
        files: FileFlags,
        terminal: Terminal,
        threads: int | None,
        *,
        quiet: bool,
    ) -> None:
        self.mixture = mixture
        self.files = files
        self.terminal = terminal
        self.threads = threads
        self.quiet = quiet
        self.importance: ImportanceMatrix | None = None
        self.name = None if files.name is None else ModelName.parse(files.name)
        self.found: Found | None = None
        self.written: Path | str | None = files.name

    def plan(self, opened: Opened, kind: FileType | None) -> Plan:
        """Work out what is to be written, without reading a tensor."""
        from ..models.quantize import make_plan, parse_pair

        source = opened.source
        changed = dict(parse_pair(text, source) for text in self.files.override_kv or ())
        if self.mixture.imatrix is not None:
            changed |= self._read_importance(opened, self.mixture.imatrix)
        return make_plan(source, self.mixture.options(kind), changed)

    def find(
        self, opened: Opened, goal: Goal, text: Path | None, target: Path | None, *, writes: bool
    ) -> Plan:
        """Work out the mixture that loses least at a size; measures on the text, if there is one.

        writes: whether it is to be written, so that a place where it cannot be is refused first.
        """
        from ..models.quantize import parse_pair, use_threads
        from ..runtime.load_options import LoadOptions
        from ..settings import load_settings
        from .quantize_target import Search

        if self.mixture.pure:
            raise InvalidRequest("--pure is one type for all, and a size needs several", field="pure")
        source = opened.source
        changed = dict(parse_pair(pair, source) for pair in self.files.override_kv or ())
        if self.mixture.imatrix is not None:
            changed |= self._read_importance(opened, self.mixture.imatrix)
        elif text is not None:
            changed["quantize.imatrix.dataset"] = text.name
        use_threads(self.threads)
        output = self.files.output(target or Path("model.gguf"))
        search = Search(opened, goal, self.mixture.options(None), changed, output)
        search.check(allow_requantize=self.mixture.allow_requantize)
        if writes:
            self._check_place(opened, search, target)
        load = LoadOptions(device="cpu", threads=self.threads or None, cpu=load_settings().cpu)
        self.found = search.run(load, text, self.importance, self.terminal, quiet=self.quiet)
        if self.found.importance is not None:
            self.importance = self.found.importance
        return self.found.plan

    def _check_place(self, opened: Opened, search: Search, target: Path | None) -> None:
        """Raise what would keep the mixture from being written."""
        if target is not None:
            check_target(opened, search.check_place(target))
            return
        from ..registry.incoming import incoming
        from ..registry.store import Store
        from ..settings import load_settings
        from .create import inspect

        inspect(opened.target.path)
        with incoming(Store(load_settings().models_dir).root) as folder:
            search.check_place(folder / "model.gguf")

    def _read_importance(self, opened: Opened, path: Path) -> Mapping[str, Value]:
        """Read the importance matrix and return what the new file says about it."""
        from ..quant.imatrix import ImportanceMatrix

        self.importance = ImportanceMatrix.read(path)
        self.importance.check({tensor.name: tensor.shape for tensor in opened.source.tensors})
        note = coverage_note(opened.source, self.importance)
        if note is not None and not self.quiet:
            self.terminal.note(printable(note))
        said: dict[str, Value] = {"quantize.imatrix.file": str(path)}
        if self.importance.datasets:
            said["quantize.imatrix.dataset"] = self.importance.datasets[0]
        said["quantize.imatrix.entries_count"] = len(self.importance.entries)
        if self.importance.chunk_count > 0:
            said["quantize.imatrix.chunks_count"] = self.importance.chunk_count
        return said

    def warn(self, plan: Plan) -> None:
        """Say on stderr what a dry run would be refused for, and what got other types."""
        notes = [fallback_note(plan)]
        if self.found is not None:
            notes.append(self.found.note(importance_given=self.importance is not None))
        if plan.coarse and self.importance is None:
            notes.append(f"note: this needs --imatrix, for {plan.coarse[0].name} and others")
        if plan.requantized and not self.mixture.allow_requantize:
            notes.append(f"note: this needs --allow-requantize, for {plan.requantized[0].name} and others")
        for note in notes:
            if note is not None and not self.quiet:
                self.terminal.note(printable(note))

    def write(self, opened: Opened, plan: Plan, target: Path | None) -> dict[str, object]:
        """Quantize; return what `--json` prints."""
        from ..models.quantize import check_plan

        check_plan(plan, allow_requantize=self.mixture.allow_requantize, importance=self.importance)
        started = time.monotonic()
        if target is not None:
            written = self._write_files(opened, plan, target)
            self.written = written[0]
        else:
            written = []
            self._register(opened, plan)
        seconds = time.monotonic() - started
        self.warn(plan)
        where = self.files.name if target is None else _span(written)
        if not self.quiet:
            self.terminal.note(
                f"{printable(str(where))}: {human_bytes(plan.nbytes)}, {plan.bits_per_weight:.2f} bits per weight "
                f"(before: {human_bytes(plan.source.nbytes)}), in {clock_text(seconds)}"
            )
        report = self.as_json(plan)
        report |= {
            "files": [str(path) for path in written],
            "name": self.files.name,
            "seconds": round(seconds, 3),
        }
        return report

    def as_json(self, plan: Plan) -> dict[str, object]:
        """Return the plan as JSON has it, and how its mixture was found."""
        found = {} if self.found is None else {"search": self.found.as_dict()}
        return plan_json(plan) | found

    def _write_files(self, opened: Opened, plan: Plan, target: Path) -> list[Path]:
        from ..models.quantize import run_plan, target_paths, use_threads

        output = self.files.output(target)
        check_target(opened, target_paths(plan, output))
        use_threads(self.threads)
        line = ProgressLine(self.terminal, "quantizing", BYTES, enabled=not self.quiet)
        try:
            return run_plan(plan, output, self.importance, line.update)
        finally:
            line.clear()

    def _register(self, opened: Opened, plan: Plan) -> None:
        """Write into the store under a name; a stored model's template and parameters come along."""
        from ..registry.create import create
        from ..registry.incoming import incoming
        from ..registry.modelfile import Command, Modelfile
        from ..registry.store import Store
        from ..settings import load_settings
        from .create import inspect

        assert self.name is not None
        # What cannot be run is refused before it is written.
        inspect(opened.target.path)
        store = Store(load_settings().models_dir)
        with incoming(store.root) as folder:
            first = str(self._write_files(opened, plan, folder / "model.gguf")[0])
            contents = opened.target.contents
            modelfile = (
                Modelfile((Command("from", (first,)),))
                if contents is None
                else Modelfile.from_contents(contents, first)
            )
            create(store, self.name, modelfile, base=folder, inspect=inspect)


def _span(files: list[Path]) -> str:
    """Name the files that were written."""
    return str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1].name}"
