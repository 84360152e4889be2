"""Finds the mixture of types that loses least at the size that `llm quantize` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, MullError
from ..models.checkpoint.gguf_writer import gguf_alignment
from ..models.quantize import Output, Plan, check_place, make_plan, refuse_requantizing, target_nbytes
from ..quant.dtype import DType
from ..quant.file_types import FILE_TYPES, FileType
from ..quant.mixture import MixtureOptions, undecided
from ..quant.rounding import rounding_errors
from ..quant.target import Item, Option, groups, possible_types, probe_type, solve
from ..quant.tensor_roles import layer_of
from .formats import human_bytes
from .progress import WEIGHTS, ProgressLine
from .quantize_goals import Goal
from .quantize_trials import Trials, Tried
from .terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from ..models.checkpoint.gguf_values import Value
    from ..models.quantize_source import Source, SourceTensor
    from ..quant.imatrix import ImportanceMatrix
    from ..runtime.load_options import LoadOptions
    from .quantize_source import Opened

# Groups of matrices that are tried one by one, at most about: of models up to so many weights, and of larger ones.
_SMALL = 10**8
_GROUPS = (48, 24)
_CONTEXT = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A plan for a goal: how it was found, and what it is expected to lose and lost, in nats.

    importance: what was measured on the way, if nothing was given.
    """

    plan: Plan
    importance: ImportanceMatrix | None
    tried: tuple[Tried, ...] = ()
    windows: int = 0
    predicted_kl: float | None = None
    measured_kl: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` says of it."""
        return {
            "windows": self.windows,
            "predicted_kl": self.predicted_kl,
            "measured_kl": self.measured_kl,
            "groups": [{"tensors": list(t.names), "type": t.kind, "kl": t.kl} for t in self.tried],
        }

    def note(self, importance_given: bool) -> str:
        """Say in a line how the mixture was chosen."""
        if self.measured_kl is None:
            what = (
                "relative errors of the products, by the importance matrix"
                if importance_given
                else ("relative errors of the weights")
            )
            return f"note: chosen by {what}; --file TEXT measures what the model makes of them"
        return (
            f"chosen by {len(self.tried)} groups tried on {self.windows} windows: KL divergence "
            f"{self.measured_kl:.4g} there ({self.predicted_kl:.4g} expected)"
        )


class Search:
    """One search for a mixture: `options` without a type, for a goal, on a text or without one."""

    def __init__(
        self,
        opened: Opened,
        goal: Goal,
        options: MixtureOptions,
        changed: Mapping[str, Value],
        output: Output,
    ) -> None:
        self.opened = opened
        self.source: Source = opened.source
        self.goal = goal
        self.changed = changed
        self.output = output
        any_type = FILE_TYPES["Q8_0"]
        self.options = replace(options, file_type=any_type)
        self.names = undecided(self.source.tensors, self.source.facts(changed), self.options)
        self.tensors = {tensor.name: tensor for tensor in self.source.tensors}
        self.alignment = gguf_alignment({**self.source.metadata, **changed})

    def check(self, *, allow_requantize: bool) -> None:
        """Raise InvalidRequest for weights that were rounded before, and for a goal that nothing can come near."""
        coarse = next((n for n in self.names if self.tensors[n].kind.is_block), None)
        if coarse is not None and not allow_requantize:
            refuse_requantizing(coarse, self.tensors[coarse].kind)
        if not self.names:
            raise InvalidRequest(
                "there is no tensor left whose type could be chosen",
                field="target",
                hint="give a TYPE instead",
            )

    def check_place(self, path: Path) -> list[Path]:
        """Raise what would keep the files from being written, before a search that may take long.

        path: instead of the output's. Returns the names of the files, as far as they are known.
        """
        plan = self._plan(self._kept(), FILE_TYPES["Q8_0"])
        most = target_nbytes(plan, self.output)
        if self.goal.measure == "memory":
            most = 0  # how many bytes of a file fit is known afterwards
        elif self.goal.measure == "size":
            most = min(most, int(self.goal.amount))
        else:
            most = min(most, int(self.goal.amount * self.source.num_weights / 8))
        return check_place(plan, replace(self.output, path=path), most)

    def run(
        self,
        load: LoadOptions,
        text: Path | None,
        importance: ImportanceMatrix | None,
        terminal: Terminal,
        *,
        quiet: bool,
    ) -> Found:
        """Find the mixture; raises InvalidRequest for a goal below the smallest size, and for a short text."""
        weighted = importance is not None or text is not None
        bits = self._bits()
        kinds = {
            name: possible_types(self.tensors[name].kind, self.tensors[name].shape, bits, weighted=weighted)
            for name in self.names
        }
        self._check_room(kinds, weighted=weighted)
        measuring = None
        if text is not None:
            measuring = Trials(self.opened, text, load, terminal, quiet=quiet)
            importance = importance or measuring.importance()
        errors, energies = self._errors(kinds, importance, terminal, quiet=quiet)
        tried: list[Tried] = []
        if measuring is None:
            scales = {name: 1 / energy if energy > 0 else 1.0 for name, energy in energies.items()}
        else:
            probes = {name: probe_type(kinds[name], bits) for name in self.names}
            most = _GROUPS[self.source.num_weights > _SMALL]
            tried = measuring.try_groups(groups(self.names, most), probes, importance)
            scales = _scales(tried, errors, probes)
        plan, cost = self._solve(kinds, errors, scales)
        if measuring is None:
            return Found(plan, None)
        chosen = {choice.name: choice.target for choice in plan.choices if choice.changes}
        kl = measuring.divergence(chosen, importance)
        return Found(plan, importance, tuple(tried), measuring.num_windows, cost, kl)

    def _bits(self) -> float:
        """Return about how many bits per weight the goal leaves."""
        if self.goal.measure == "bits":
            return self.goal.amount
        room = self.goal.amount if self.goal.measure == "size" else self._memory_room()
        return 8 * room / max(1, self.source.num_weights)

    def _memory_room(self) -> int:
        """Return what weights may take of the memory, as they are held in it."""
        from ..models.cache import CacheTypes
        from ..models.load import model_config
        from ..runtime.memory import weights_room

        config = model_config(self.opened.as_gguf())
        context = self.goal.num_ctx or min(_CONTEXT, config.max_positions)
        if context > config.max_positions and config.rope.kind != "dynamic":
            raise InvalidRequest(
                f"a context of {context} tokens is to fit, and the model's is {config.max_positions}",
                field="fit",
            )
        return weights_room(config, int(self.goal.amount), context, CacheTypes("f16", "f16"))

    def _held(self, kind: DType, shape: Sequence[int]) -> int:
        """Return the bytes that count of a tensor: in a file, padded; in memory, packed."""
        nbytes = kind.shape_bytes(shape)
        if self.goal.measure == "size":
            return -(-nbytes // self.alignment) * self.alignment
        if self.goal.measure == "bits":
            return nbytes
        from ..kernels.cpu import native
        from ..quant.linear import packed_types
        from ..settings import load_settings

        isa = native.choose(load_settings().cpu)
        each = {} if isa is None else packed_types(isa)
        return max(nbytes, int(nbytes // kind.nbytes * kind.block * each.get(kind.name, 2) + 1))

    def _plan(self, types: Mapping[str, DType], file_type: FileType) -> Plan:
        options = replace(self.options, file_type=file_type, exact=types)
        return make_plan(self.source, options, self.changed)

    def _kept(self) -> dict[str, DType]:
        """Return the types that the matrices have."""
        return {name: self.tensors[name].kind for name in self.names}

    def _room(self) -> int:
        """Return the bytes for those tensors whose types are to be chosen."""
        fixed = self._plan(self._kept(), FILE_TYPES["Q8_0"])
        others = [choice for choice in fixed.choices if choice.name not in set(self.names)]
        taken = sum(self._held(choice.target, choice.shape) for choice in others)
        if self.goal.measure == "memory":
            return self._memory_room() - taken
        if self.goal.measure == "bits":
            return int(self.goal.amount * self.source.num_weights / 8) - taken
        open_ones = sum(self._held(self.tensors[n].kind, self.tensors[n].shape) for n in self.names)
        return int(self.goal.amount) - (target_nbytes(fixed, self.output) - open_ones)

    def _check_room(self, kinds: Mapping[str, Sequence[DType]], *, weighted: bool) -> None:
        """Raise InvalidRequest for a goal that nothing meets, before anything is measured."""
        room = self._room()
        least = sum(
            min(self._held(kind, self.tensors[name].shape) for kind in found) for name, found in kinds.items()
        )
        if least <= room:
            return
        missing = least - room
        if self.goal.measure == "bits":
            lowest = self.goal.amount + 8 * missing / self.source.num_weights
            what, hint = f"{self.goal.amount:g} bits per weight", f"--target-bpw {lowest + 0.005:.2f}"
        elif self.goal.measure == "size":
            lowest = self.goal.amount + missing
            what, hint = human_bytes(int(self.goal.amount)), f"--target-size {lowest / 1e6 + 0.001:.3f}MB"
        else:
            what, hint = (
                f"{human_bytes(int(self.goal.amount))} of memory",
                "more memory, or a shorter context",
            )
        raise InvalidRequest(
            f"{what}: too little for this model by {human_bytes(missing)}, even at the smallest types",
            field="target",
            hint=hint if weighted else f"{hint}; --imatrix or --file allows smaller types",
        )

    def _errors(
        self,
        kinds: Mapping[str, Sequence[DType]],
        importance: ImportanceMatrix | None,
        terminal: Terminal,
        *,
        quiet: bool,
    ) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """Return each matrix's error in each type, and its energy."""
        errors: dict[str, dict[str, float]] = {}
        energies: dict[str, float] = {}
        line = ProgressLine(terminal, "errors", WEIGHTS, enabled=not quiet)
        total = sum(_weights(self.tensors[name]) for name in self.names)
        done = 0
        try:
            for name, found in kinds.items():
                tensor = self.tensors[name]
                weight = tensor.load()
                table = importance.for_tensor(name, tensor.shape) if importance is not None else None
                try:
                    errors[name], energies[name] = rounding_errors(weight, found, table)
                except MullError as error:
                    message = f"{self.source.path}: {name}: {error.message}"
                    raise type(error)(message, hint=error.hint) from error
                self.source.forget(weight.parts[0])
                tensor.release()
                done += _weights(tensor)
                line.update(done, total)
        finally:
            line.clear()
        return errors, energies

    def _solve(
        self,
        kinds: Mapping[str, Sequence[DType]],
        errors: Mapping[str, Mapping[str, float]],
        scales: Mapping[str, float],
    ) -> tuple[Plan, float]:
        """Choose, and return the plan and what it costs."""
        items = [
            Item(
                name,
                tuple(
                    Option(
                        kind,
                        self._held(kind, self.tensors[name].shape),
                        scales[name] * errors[name][kind.name],
                    )
                    for kind in kinds[name]
                ),
            )
            for name in self.names
        ]
        chosen = solve(items, self._room())
        assert chosen is not None, "the room was checked before"
        types = {name: option.kind for name, option in chosen.items()}
        cost = sum(option.cost for option in chosen.values())
        plan = self._plan(types, FILE_TYPES["Q8_0"])
        return self._plan(types, self._file_type(plan)), cost

    def _file_type(self, plan: Plan) -> FileType:
        """Return the type that the file is called by.

        The recipe that would come nearest in size, of those whose main type some matrix of a layer has.
        """
        found = set(self.names)
        chosen = {c.target.name for c in plan.choices if c.name in found and layer_of(c.name) is not None}
        chosen = chosen or {c.target.name for c in plan.choices if c.name in found}
        near = {
            kind.name: abs(self._recipe(kind).nbytes - plan.nbytes)
            for kind in FILE_TYPES.values()
            if kind.default in chosen
        }
        return FILE_TYPES[min(near, key=lambda name: near[name]) if near else "Q8_0"]

    def _recipe(self, kind: FileType) -> Plan:
        return make_plan(self.source, replace(self.options, file_type=kind), self.changed)


def _weights(tensor: SourceTensor) -> int:
    return tensor.nbytes // tensor.kind.nbytes * tensor.kind.block


def _scales(
    tried: Sequence[Tried], errors: Mapping[str, Mapping[str, float]], probes: Mapping[str, DType]
) -> dict[str, float]:
    """Return the divergence that a unit of each matrix's error costs."""
    scales = {}
    for group in tried:
        error = sum(errors[name][probes[name].name] for name in group.names)
        scales.update(dict.fromkeys(group.names, group.kl / error if error > 0 else 0.0))
    return scales
