"""The tensors of a GGUF file, each made from those of a Hugging Face checkpoint when its turn comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ...errors import NotSupported
from ...quant.dtype import DType, dtype
from ...quant.formats.floats import TORCH_DTYPES
from ...quant.qtensor import QTensor
from .. import weights as loading
from ..base import CausalLM
from ..checkpoint.base import Checkpoint
from ..checkpoint.names import gguf_name
from ..config import ModelConfig, RopeConfig
from ..layers.rope import Rotary

_EXPERT = re.compile(r"(.*\.mlp\.experts)\.(\d+)\.(.*)")
_HEADS = re.compile(r".*\.self_attn\.(q|k)_proj\.(?:weight|bias)")
_NORM = re.compile(r".*norm\.weight")
# Routers, besides norms, biases and vectors, are read as float32 only.
_ALWAYS_F32 = re.compile(r".*(?<!\.weight)|.*_norm\.weight|.*\.ffn_gate_inp\.weight")
_READABLE = ("f32", "f16", "bf16", "f64")


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor to be: its name in GGUF, its shape (outermost first), its type, and how it is made.

    load: maps or computes it, in `dtype`; memory is taken only then. release: lets go of the pages behind it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    load: Callable[[], QTensor]
    release: Callable[[], None]

    @property
    def nbytes(self) -> int:
        """The bytes of the tensor in this type."""
        return self.dtype.shape_bytes(self.shape)


@dataclass(slots=True)
class _Plan:
    """One tensor of the file, by our name for it, and the checkpoint's tensors that it is made of."""

    name: str
    parts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What becomes what: the architecture that reads the checkpoint, and the one that will read the file.

    outtype: f32, f16, bf16, or auto to keep each matrix's own type. tied: the head is the embedding, whatever
    the checkpoint holds besides. pairs: the reader wants rotated pairs side by side.
    """

    model: type[CausalLM]
    config: ModelConfig
    written: type[CausalLM]
    outtype: str
    tied: bool
    pairs: bool


def tensor_sources(checkpoint: Checkpoint, recipe: Recipe) -> list[Source]:
    """Return the tensors of the GGUF file, in the order of the layers.

    Raises what loading the model would raise, and NotSupported for what GGUF has no word for.
    """
    rope = recipe.config.rope
    sources = [*_llama3_factors(rope), *_longrope_factors(rope)]
    for plan in _plans(checkpoint, recipe):
        name = gguf_name(plan.name, recipe.written.gguf_names)
        if name == plan.name:
            raise NotSupported(f"the tensor '{plan.name}' has no name in GGUF files")
        sources.append(_source(checkpoint, plan, name, recipe))
    return sources


def _plans(checkpoint: Checkpoint, recipe: Recipe) -> list[_Plan]:
    """Group the checkpoint's tensors by what they become; experts are stacked."""
    plans: dict[str, _Plan] = {}
    for file_name, name in asked_names(checkpoint, recipe.model, recipe.config).items():
        expert = _EXPERT.fullmatch(name)
        if expert:
            name = f"{expert[1]}.{expert[3]}"
        plans.setdefault(name, _Plan(name)).parts.append(file_name)
    if recipe.tied:
        plans.pop("lm_head.weight", None)
    return list(plans.values())


def asked_names(checkpoint: Checkpoint, model: type[CausalLM], config: ModelConfig) -> dict[str, str]:
    """Return our name of every tensor that the model uses, by the file's, in the order in which it asks.

    The model is built on mapped tensors, which checks their shapes and that none is missing or left over.
    """
    spell = model.translate(checkpoint)
    names: dict[str, str] = {}

    def translate(name: str) -> str:
        spelled = spell(name)
        names.setdefault(spelled, name)
        return spelled

    source = loading.Source(checkpoint, translate, torch.float32, torch.device("cpu"), hold=False)
    with torch.inference_mode():
        model(config, loading.Weights(source), config.max_positions)
    return {file_name: name for file_name, name in names.items() if file_name in source.used}


Change = Callable[[Tensor], Tensor]


def _change(name: str, recipe: Recipe) -> Change | None:
    """Return what becomes of a tensor's numbers, None where they stay."""
    heads, config = _HEADS.fullmatch(name), recipe.config
    if heads and recipe.pairs:
        count = config.num_heads if heads[1] == "q" else config.num_kv_heads
        return partial(_side_by_side, heads=count, dim=config.rope.dim)
    offset = recipe.model.norm.offset
    if offset and _NORM.fullmatch(name):
        return lambda weight: weight.float() + offset
    return None


def _side_by_side(rows: Tensor, heads: int, dim: int) -> Tensor:
    """Lay rotated pairs side by side in each head: row i and row i + dim/2 become 2i and 2i + 1."""
    by_head = rows.reshape(heads, -1, *rows.shape[1:])
    order = torch.arange(by_head.shape[1])
    order[:dim] = order[:dim].view(2, dim // 2).T.reshape(-1)
    return by_head[:, order].reshape(rows.shape)


def _source(checkpoint: Checkpoint, plan: _Plan, name: str, recipe: Recipe) -> Source:
    infos = [checkpoint.info(part) for part in plan.parts]
    kind, shape = infos[0].dtype, infos[0].shape
    for info in infos:
        if info.dtype not in _READABLE:
            raise NotSupported(
                f"the tensor '{info.name}' holds {info.dtype}, which is not converted yet",
                hint="take the original model in bfloat16 or float16",
            )
    if len(plan.parts) > 1:
        shape = (len(infos), *shape)
    if len(shape) < 2 or _ALWAYS_F32.fullmatch(name):
        kind = "f32"
    else:
        own = "f32" if kind == "f64" else kind
        kind = own if recipe.outtype == "auto" else recipe.outtype
    make = partial(_make, checkpoint, plan.parts, shape, dtype(kind), _change(plan.name, recipe))
    return Source(name, shape, dtype(kind), make, partial(_release, checkpoint, plan.parts))


def _make(
    checkpoint: Checkpoint, parts: list[str], shape: tuple[int, ...], kind: DType, change: Change | None
) -> QTensor:
    """Return a tensor as the file will hold it; one that needs no change stays mapped."""
    target = TORCH_DTYPES[kind.name]
    if len(parts) == 1:
        stored = checkpoint.load(parts[0])
        if change is None and stored.dtype.name == kind.name:
            return stored
        made = stored.parts[0].reshape(shape)
        made = (made if change is None else change(made)).to(target)
        checkpoint.forget(stored.parts[0])
        return QTensor((made,), kind, shape)
    made = torch.empty(shape, dtype=target)
    for index, stored in enumerate(map(checkpoint.load, parts)):
        one = stored.parts[0].reshape(shape[1:])
        made[index] = one if change is None else change(one)
        checkpoint.forget(stored.parts[0])
    return QTensor((made,), kind, shape)


def _release(checkpoint: Checkpoint, parts: list[str]) -> None:
    for part in parts:
        checkpoint.forget(checkpoint.load(part).parts[0])


def _llama3_factors(rope: RopeConfig) -> Iterator[Source]:
    """Yield by what llama3's rule divides each plain frequency: GGUF has numbers instead of the rule."""
    if rope.kind == "llama3":
        cpu = torch.device("cpu")
        plain = Rotary(RopeConfig(rope.theta, rope.dim), rope.original_context, cpu).frequencies
        yield _made("rope_freqs.weight", plain / Rotary(rope, rope.original_context, cpu).frequencies)


def _longrope_factors(rope: RopeConfig) -> Iterator[Source]:
    if rope.kind == "longrope":
        yield _made("rope_factors_long.weight", torch.tensor(rope.long_factor))
        yield _made("rope_factors_short.weight", torch.tensor(rope.short_factor))


def _made(name: str, values: Tensor) -> Source:
    tensor = QTensor((values.float(),), dtype("f32"), tuple(values.shape))
    return Source(name, tensor.shape, tensor.dtype, lambda: tensor, lambda: None)
