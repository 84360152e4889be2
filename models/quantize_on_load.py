"""A checkpoint whose matrices are quantized as they are loaded, so that memory holds them in few bits only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InvalidRequest, MullError
from ..quant import bnb
from ..quant.dtype import DType, dtype, find_quantizer
from ..quant.encode import FLOATS, encode
from ..quant.file_types import FileType
from ..quant.load_types import load_type
from ..quant.mixture import MixtureOptions, choose_types
from ..quant.qtensor import QTensor
from ..quant.recipe import ModelFacts
from ..quant.tensor_roles import is_embedding, is_head, may_quantize
from .checkpoint.base import Checkpoint, TensorInfo
from .checkpoint.names import gguf_name
from .checkpoint.view import View
from .config import ModelConfig
from .convert.tensors import asked_names
from .load import find_architecture, model_config

_SOURCES = (*FLOATS, "f64")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A tensor under GGUF's name, as recipes see it, and the checkpoint's tensors that make it up."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    files: tuple[str, ...]


class QuantizingCheckpoint(View):
    """Another checkpoint, some of whose tensors have other types here; these are made as they are loaded."""

    def __init__(self, checkpoint: Checkpoint, targets: Mapping[str, DType]) -> None:
        super().__init__(checkpoint)
        self._targets = targets
        self._infos = {info.name: self._described(info) for info in checkpoint.infos.values()}

    def _described(self, info: TensorInfo) -> TensorInfo:
        kind = self._targets.get(info.name)
        if kind is None:
            return info
        return TensorInfo(info.name, kind.name, info.shape, kind.shape_bytes(info.shape))

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's description as it will be loaded."""
        return self._infos

    def load(self, name: str, device: str = "cpu") -> QTensor:
        """Return a tensor, quantized if it is to be; raises CorruptFile for weights that are not finite."""
        kind = self._targets.get(name)
        if kind is None:
            return self.inner.load(name, device)
        stored = self.inner.load(name)
        try:
            if kind.name in bnb.TYPES:
                return bnb.quantize(stored.to(device), kind)
            return encode(stored, kind).to(device)
        except MullError as error:
            raise type(error)(f"{self.path.name}: {name}: {error.message}", hint=error.hint) from error
        finally:
            self.inner.forget(stored.parts[0])


def quantizing(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Return a checkpoint with its matrices in the type `name`: a file's such as q4_k_m, or one of bitsandbytes'.

    bitsandbytes' leave the embedding and the head as they are, as in transformers. Raises InvalidRequest for a type
    that is none, for weights that are quantized already, and for types that need an importance matrix.
    """
    asked = load_type(name)
    targets = _mixture(checkpoint, asked) if isinstance(asked, FileType) else layers(checkpoint, asked)
    return QuantizingCheckpoint(checkpoint, targets)


def _matrices(checkpoint: Checkpoint, config: ModelConfig) -> list[_Matrix]:
    """Return the checkpoint's tensors as a GGUF file would hold them: experts are one tensor there."""
    if checkpoint.format == "gguf":
        return [
            _Matrix(info.name, info.dtype, info.shape, (info.name,)) for info in checkpoint.infos.values()
        ]
    model = find_architecture(checkpoint)
    files: dict[str, list[str]] = {}
    for file_name, own in asked_names(checkpoint, model, config).items():
        known = gguf_name(own, model.gguf_names)
        layer, expert, rest = known.partition(".ffn_")
        kind, _, index = rest.removesuffix(".weight").partition(".")
        if expert and index.isdecimal():
            known = f"{layer}.ffn_{kind}_exps.weight"
        files.setdefault(known, []).append(file_name)
    made = []
    for known, names in files.items():
        info = checkpoint.info(names[0])
        shape = (len(names), *info.shape) if len(names) > 1 else info.shape
        made.append(_Matrix(known, info.dtype, shape, tuple(names)))
    return made


def _mixture(checkpoint: Checkpoint, asked: FileType) -> dict[str, DType]:
    config = model_config(checkpoint)
    matrices = _matrices(checkpoint, config)
    facts = ModelFacts(
        architecture=find_architecture(checkpoint).written_as or checkpoint.architecture,
        num_layers=config.num_layers,
        num_experts=config.num_experts,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
    )
    files = {matrix.name: matrix for matrix in matrices}
    targets = {}
    for choice in choose_types(matrices, facts, MixtureOptions(asked)):
        if not choice.changes:
            continue
        matrix = files[choice.name]
        _check_source(matrix, asked.name)
        if choice.needs_imatrix:
            raise InvalidRequest(
                f"{choice.name} would become {choice.target.name}, which is unusable without importance",
                field="quantize",
                hint="choose a larger type, or llm quantize --imatrix",
            )
        if choice.target.is_block:
            find_quantizer(choice.target)
        targets.update(dict.fromkeys(matrix.files, choice.target))
    return targets


def layers(checkpoint: Checkpoint, kind: DType) -> dict[str, DType]:
    """Return the tensors that bitsandbytes quantizes, by the checkpoint's names: all matrices but embedding and head.

    Raises NotSupported without bitsandbytes, InvalidRequest for weights that are quantized already, ShapeMismatch.
    """
    architecture = find_architecture(checkpoint).written_as or checkpoint.architecture
    targets: dict[str, DType] = {}
    for matrix in _matrices(checkpoint, model_config(checkpoint)):
        name = matrix.name
        if is_embedding(name) or is_head(name) or not may_quantize(name, matrix.shape, architecture):
            continue
        _check_source(matrix, kind.name)
        kind.shape_bytes(matrix.shape)
        targets.update(dict.fromkeys(matrix.files, kind))
    bnb.library()  # what cannot be done is said before anything is loaded
    return targets


def _check_source(matrix: _Matrix, asked: str) -> None:
    """Raise InvalidRequest for weights that were rounded to a few bits before."""
    if matrix.dtype not in _SOURCES:
        raise InvalidRequest(
            f"the weights are {dtype(matrix.dtype).name} already; rounding them again, to {asked.lower()}, "
            "would lose more than rounding once",
            field="quantize",
            hint="run it without --quantize, or start from a model in F16, BF16 or F32",
        )
