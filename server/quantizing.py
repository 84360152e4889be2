"""Writes a model's weights in another type, for a new model that is to be made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, NotSupported
from ..quant.file_types import COPY, file_type
from ..quant.load_types import BITSANDBYTES, load_type

if TYPE_CHECKING:
    from ..models.checkpoint.base import Checkpoint
    from ..models.quantize import Plan
    from ..quant.imatrix import ImportanceMatrix

Told = Callable[[str, int, int], None]
"""Called with what is being done, and the bytes done and in all."""

_FLOATS = ("f16", "f32", "bf16")


@dataclass(frozen=True, slots=True)
class Quantizing:
    """The type that weights are written in; COPY for GGUF without a change.

    imatrix: a file that says how much each column matters.
    """

    kind: str
    imatrix: Path | None = None

    def check(self) -> None:
        """Raise InvalidRequest for a type that is none, with the nearest ones."""
        if self.kind.upper() != COPY:
            load_type(self.kind)

    def write(self, source: Path, folder: Path, told: Told) -> Path:
        """Write a file or a folder of weights into `folder` and return it; raises a MullError for what cannot be."""
        from ..models.checkpoint.open import open_checkpoint
        from ..models.checkpoint.summary import quantization
        from ..models.quantize import use_threads

        use_threads(None)
        with open_checkpoint(source) as checkpoint:
            name = self.kind.upper() if self.kind.lower() not in BITSANDBYTES else self.kind.lower()
            status = f"quantizing {quantization(checkpoint)} model to {name}"
            if self.kind.lower() not in BITSANDBYTES:
                return self._to_gguf(checkpoint, folder, lambda done, total: told(status, done, total))
            if self.imatrix is not None:
                raise InvalidRequest(f"{name} takes no importance matrix", field="imatrix")
            from ..models.bnb_folder import save_folder

            written = folder / "quantized"
            save_folder(checkpoint, written, name, lambda done, total: told(status, done, total))
            return written

    def _to_gguf(self, checkpoint: Checkpoint, folder: Path, report: Callable[[int, int], None]) -> Path:
        from ..models.quantize import Output, check_plan, run_plan

        importance = self._importance()
        plan = self._plan(checkpoint, importance)
        _refuse_rounded(plan)
        check_plan(plan, allow_requantize=False, importance=importance)
        return run_plan(plan, Output(folder / "quantized.gguf"), importance, report)[0]

    def _plan(self, checkpoint: Checkpoint, importance: ImportanceMatrix | None) -> Plan:
        from ..models.convert.convert import convert
        from ..models.quantize import make_plan
        from ..models.quantize_source import checkpoint_source, converted_source
        from ..quant.mixture import MixtureOptions

        if checkpoint.format == "gguf":
            source = checkpoint_source(checkpoint)
        else:
            source = converted_source(checkpoint.path, convert(checkpoint))
        if importance is not None:
            importance.check({tensor.name: tensor.shape for tensor in source.tensors})
        wanted = None if self.kind.upper() == COPY else file_type(self.kind)
        return make_plan(source, MixtureOptions(wanted, has_imatrix=importance is not None))

    def _importance(self) -> ImportanceMatrix | None:
        if self.imatrix is None:
            return None
        from ..quant.imatrix import ImportanceMatrix

        return ImportanceMatrix.read(self.imatrix)


def _refuse_rounded(plan: Plan) -> None:
    """Raise NotSupported, in Ollama's words, for weights that would be rounded a second time."""
    if any(choice.changes and choice.source.name not in _FLOATS for choice in plan.choices):
        raise NotSupported(
            "quantization is only supported for F16, BF16 and F32 models",
            field="quantize",
            hint="take the original model; llm quantize --allow-requantize rounds again, and loses more",
        )
