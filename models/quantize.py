"""Writes a model as GGUF in other types: what becomes of each tensor, and the writing, one piece after another."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from ..errors import CheckpointError, CorruptFile, InvalidRequest, MullError
from ..quant.dtype import DType, find_dequantizer, find_quantizer
from ..quant.mixture import Choice, MixtureOptions, choose_types
from .checkpoint.gguf_values import Typed, Value, ValueType, Verbatim, typed_like
from .checkpoint.gguf_writer import NewTensor, gguf_nbytes, gguf_paths, part_paths, write_gguf
from .checkpoint.new_files import NewFiles
from .quantize_source import Source, SourceTensor

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..quant.qtensor import QTensor

# Weights that are read, encoded and written at a time.
_PIECE = 1 << 22
_QUANTIZATION_VERSION = 2
_INTEGERS = {
    ValueType.UINT8, ValueType.INT8, ValueType.UINT16, ValueType.INT16, ValueType.UINT32, ValueType.INT32,
    ValueType.UINT64, ValueType.INT64,
}  # fmt: skip

Progress = Callable[[int, int], None]
"""Called with the source's bytes done and in all."""


class Importance(Protocol):
    """Where the importance of a matrix's columns comes from."""

    def for_tensor(self, name: str, shape: Sequence[int]) -> np.ndarray | None:
        """Return float32 [matrices, columns], or None; raise ShapeMismatch if it is of another model."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a quantized file will hold: every tensor's types, and the metadata."""

    source: Source
    choices: tuple[Choice, ...]
    metadata: Mapping[str, Value]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors afterwards."""
        return sum(choice.nbytes for choice in self.choices)

    @property
    def bits_per_weight(self) -> float:
        """Bits of tensors for each number in them."""
        return self.nbytes * 8 / max(1, self.source.num_weights)

    @property
    def fallbacks(self) -> list[Choice]:
        """Tensors whose rows no block of their type divides."""
        return [choice for choice in self.choices if choice.fell_back]

    @property
    def requantized(self) -> list[Choice]:
        """Tensors that would be rounded a second time."""
        return [choice for choice in self.choices if choice.requantizes]

    @property
    def coarse(self) -> list[Choice]:
        """Tensors that are unusable without importance."""
        return [choice for choice in self.choices if choice.needs_imatrix]


@dataclass(frozen=True, slots=True)
class Output:
    """How the files are written. keep_split: in as many as the source, each with the same tensors."""

    path: Path
    keep_split: bool = False
    split_max_size: int | None = None
    split_max_tensors: int | None = None


class _Course:
    """How far the writing has come, and which memory it no longer needs."""

    def __init__(self, total: int, report: Progress | None) -> None:
        self._total, self._report = total, report
        self._done = 0
        self._let_go: list[Callable[[], None]] = []

    def passed(self, nbytes: int, let_go: Callable[[], None]) -> None:
        """Count a piece that was handed on. It may still be written; those before it are."""
        self.end()
        self._done += nbytes
        self._let_go = [let_go]
        if self._report is not None:
            self._report(self._done, self._total)

    def then(self, let_go: Callable[[], None]) -> None:
        """Do this too once the last piece is written."""
        self._let_go.append(let_go)

    def end(self) -> None:
        """Let go of everything that was handed on."""
        for let_go in self._let_go:
            let_go()
        self._let_go = []


def make_plan(source: Source, options: MixtureOptions, changed: Mapping[str, Value] | None = None) -> Plan:
    """Choose every tensor's type, without reading one; changed: metadata that is to be set.

    Raises InvalidRequest for options that this model gives no meaning.
    """
    if not source.tensors:
        raise CheckpointError(f"{source.path}: there are no tensors to quantize")
    choices = choose_types(source.tensors, source.facts(changed), options)
    metadata = dict(source.metadata)
    if options.file_type is not None:
        _set(metadata, "general.quantization_version", _QUANTIZATION_VERSION)
        _set(metadata, "general.file_type", options.file_type.number)
    for key, value in (changed or {}).items():
        metadata.pop(key, None)
        metadata[key] = value
    return Plan(source, tuple(choices), metadata)


def check_plan(plan: Plan, *, allow_requantize: bool, importance: Importance | None) -> None:
    """Raise InvalidRequest for what would ruin the model, and ShapeMismatch for another model's importance."""
    if plan.requantized and not allow_requantize:
        refuse_requantizing(plan.requantized[0].name, plan.requantized[0].source)
    for choice in plan.coarse:
        if importance is None:
            raise InvalidRequest(
                f"{choice.name} would become {choice.target.name}, which is unusable without importance",
                field="imatrix",
                hint="measure it with llm imatrix and give it with --imatrix, or choose a larger type",
            )
        if importance.for_tensor(choice.name, choice.shape) is None:
            raise InvalidRequest(
                f"the importance matrix has nothing for {choice.name}, which would be unusable as "
                f"{choice.target.name} without",
                field="imatrix",
                hint=f"measure on more text, or --tensor-type '{re.escape(choice.name)}=q4_k'",
            )

    _check_types(plan)


def refuse_requantizing(name: str, kind: DType) -> NoReturn:
    """Raise InvalidRequest: the tensor was rounded to a few bits before."""
    raise InvalidRequest(
        f"{name} is {kind.name} already; rounding it again loses more than rounding once",
        field="type",
        hint="start from a file in F16, BF16 or F32, or insist with --allow-requantize",
    )


def _check_types(plan: Plan) -> None:
    """Raise NotSupported for a type that can not be read or not be made, before hours are spent on others."""
    from ..quant import encode as encode  # registers what there is

    for choice in plan.choices:
        if choice.changes and choice.source.is_block:
            find_dequantizer(choice.source)
        if choice.changes and choice.target.is_block:
            find_quantizer(choice.target)


def run_plan(
    plan: Plan, output: Output, importance: Importance | None = None, progress: Progress | None = None
) -> list[Path]:
    """Write the files and return their names; all of them are whole, or none is there.

    Raises CorruptFile with the tensor's name for weights that are not finite, and as `write_gguf` does.
    """
    course = _Course(plan.source.nbytes, progress)
    written = write_gguf(
        output.path,
        plan.metadata,
        _new_tensors(plan, output, importance, course),
        split_max_size=output.split_max_size,
        split_max_tensors=output.split_max_tensors,
    )
    course.end()
    return written


def target_paths(plan: Plan, output: Output) -> list[Path]:
    """Return the files that `run_plan` would write."""
    return gguf_paths(
        output.path,
        _new_tensors(plan, output, None, _Course(0, None)),
        split_max_size=output.split_max_size,
        split_max_tensors=output.split_max_tensors,
    )


def target_nbytes(plan: Plan, output: Output) -> int:
    """Return the bytes of all files that `run_plan` would write."""
    return gguf_nbytes(
        plan.metadata,
        _new_tensors(plan, output, None, _Course(0, None)),
        split_max_size=output.split_max_size,
        split_max_tensors=output.split_max_tensors,
    )


def check_place(plan: Plan, output: Output, nbytes: int) -> list[Path]:
    """Raise what would keep `nbytes` in all from being written, before they are made; nothing stays behind.

    plan: one like that to come. Returns the files' names, but none where their number depends on the types.
    """
    certain = output.split_max_size is None
    paths = target_paths(plan, output) if certain else part_paths(output.path, 2)
    with NewFiles(paths, nbytes) as files:
        files.create()
    return paths if certain else []


def _new_tensors(
    plan: Plan, output: Output, importance: Importance | None, course: _Course
) -> list[NewTensor]:
    found = {tensor.name: tensor for tensor in plan.source.tensors}
    parted = output.keep_split and plan.source.num_parts > 1

    def made(choice: Choice) -> NewTensor:
        tensor = found[choice.name]
        return NewTensor(
            choice.name,
            choice.target,
            choice.shape,
            lambda: _pieces(plan.source, tensor, choice, importance, course),
            tensor.part if parted else None,
        )

    return [made(choice) for choice in plan.choices]


def use_threads(wanted: int | None) -> None:
    """Set how many threads compute; None or 0: one per core."""
    import torch

    from ..kernels.cpu.native import instruction_sets
    from ..kernels.device import choose_threads, set_threads

    set_threads(choose_threads(wanted))
    if instruction_sets():
        # What is left to torch is small; threads of its own would take the cores from the kernels'.
        torch.set_num_threads(1)


def parse_pair(text: str, source: Source) -> tuple[str, Value]:
    """Read `KEY=TYPE:VALUE` (int, float, bool or str); an integer keeps the type that the key has.

    Raises InvalidRequest.
    """
    match = re.fullmatch(r"([^=]+)=(int|float|bool|str):(.*)", text, re.DOTALL)
    if match is None:
        raise InvalidRequest(
            f"'{text}' is not KEY=TYPE:VALUE",
            field="override_kv",
            hint="TYPE is int, float, bool or str: llama.context_length=int:8192",
        )
    key, kind, value = match[1], match[2], match[3]
    try:
        if kind == "int":
            return key, Typed(int(value), _integer_type(source.metadata.get(key), int(value)))
        if kind == "float":
            return key, Typed(float(value), ValueType.FLOAT32)
        if kind == "bool":
            return key, Typed({"true": True, "false": False}[value.lower()], ValueType.BOOL)
    except (ValueError, KeyError):
        raise InvalidRequest(f"'{value}' is no {kind} for {key}", field="override_kv") from None
    return key, Typed(value, ValueType.STRING)


def _integer_type(before: Value | None, value: int) -> ValueType:
    """Return the type that a key has, if it is one of integers, else the usual one."""
    if isinstance(before, (Typed, Verbatim)) and before.kind in _INTEGERS:
        return ValueType(before.kind)
    return typed_like(value).kind


def _set(metadata: dict[str, Value], key: str, number: int) -> None:
    """Set a key as the last one, where llama.cpp puts it."""
    metadata.pop(key, None)
    metadata[key] = Typed(number, ValueType.UINT32)


def _pieces(
    source: Source, tensor: SourceTensor, choice: Choice, importance: Importance | None, course: _Course
) -> Iterator[Tensor]:
    """Make a tensor's bytes, some rows at a time."""
    import torch

    weight = tensor.load()
    columns = tensor.shape[-1] if tensor.shape else 1
    table = importance.for_tensor(choice.name, choice.shape) if importance and choice.changes else None
    weights = None if table is None else torch.from_numpy(table)
    num_rows = tensor.nbytes // max(1, tensor.kind.shape_bytes(tensor.shape[-1:]))
    step = max(1, _PIECE // max(1, columns))
    for first in range(0, num_rows, step):
        rows = slice(first, min(num_rows, first + step))
        try:
            yield _encoded(weight, choice, weights, rows) if choice.changes else _copied(weight, rows)
        except MullError as error:
            raise type(error)(f"{source.path}: {choice.name}: {error.message}", hint=error.hint) from error
        part = _stored(weight)[rows]
        course.passed(part.numel() * part.element_size(), partial(source.forget, part))
    course.then(tensor.release)


def _stored(weight: QTensor) -> Tensor:
    """Look at a tensor as rows."""
    stored = weight.parts[0]
    return stored if weight.dtype.is_block else stored.reshape(-1, weight.shape[-1] if weight.shape else 1)


def _encoded(weight: QTensor, choice: Choice, importance: Tensor | None, rows: slice) -> Tensor:
    from ..quant.encode import encode

    return encode(weight, choice.target, importance, rows=rows).parts[0]


def _copied(weight: QTensor, rows: slice) -> Tensor:
    piece = _stored(weight)[rows]
    # Both ends are NaN if any weight is, and this reads memory as fast as it comes.
    if piece.dtype.is_floating_point and not all(math.isfinite(end) for end in piece.aminmax()):
        raise CorruptFile(
            "a weight is not finite", hint="the file is damaged, or was made by a run that diverged"
        )
    return piece
