"""From an open checkpoint to a model in memory."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..errors import CorruptFile, MissingTensor, NotSupported, UnsupportedArchitecture
from ..kernels.cpu.native import Isa, Memory
from ..quant.linear import Packer
from .base import CausalLM, registered
from .checkpoint.base import Checkpoint
from .config import ModelConfig, parse_config, section
from .weights import Source, Weights


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model computes and in which type.

    hold: its matrices fit there dequantized; isa: they are packed for native kernels instead.
    """

    device: torch.device
    dtype: torch.dtype
    hold: bool = True
    isa: Isa | None = None


def architectures(file_format: str) -> list[str]:
    """Return the names of the architectures that we load from "gguf" or "safetensors" files, sorted."""
    folder = str(Path(__file__).parent)
    for module in pkgutil.iter_modules([folder]):
        if not module.ispkg:
            import_module(f".{module.name}", __package__)
    return sorted(registered(file_format))


def find_architecture(checkpoint: Checkpoint) -> type[CausalLM]:
    """Return the class of the checkpoint's architecture; raises UnsupportedArchitecture naming those we have."""
    known = architectures(checkpoint.format)
    name = checkpoint.architecture
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        nearest = f"; the nearest is {near[0]}" if near else ""
        raise UnsupportedArchitecture(
            f"the architecture '{name}' is not supported yet{nearest}", hint=f"supported: {', '.join(known)}"
        )
    return registered(checkpoint.format)[name]


def model_config(checkpoint: Checkpoint) -> ModelConfig:
    """Read the checkpoint's configuration as its architecture understands it.

    Raises NotSupported for the quantized weights of other tools, CorruptFile for a broken configuration.
    """
    model = find_architecture(checkpoint)
    config = dict(checkpoint.config)
    if checkpoint.format == "safetensors":
        _refuse_quantized(config)
    try:
        return parse_config(model.adapt(config, checkpoint))
    except CorruptFile as error:
        raise CorruptFile(f"{checkpoint.path}: {error.message}", hint=error.hint) from None


def _refuse_quantized(config: Mapping[str, Any]) -> None:
    """Raise NotSupported, naming the method, if a config.json says that the weights are packed."""
    for part in (config, section(config, "text_config")):
        packed = section(part, "quantization_config")
        # Files that bitsandbytes wrote before transformers named methods say only how many bits.
        own = packed.get("load_in_4bit") or packed.get("load_in_8bit")
        if packed and packed.get("quant_method", "bitsandbytes" if own else None) != "bitsandbytes":
            raise NotSupported(
                f"the weights are quantized with {packed.get('quant_method', 'an unnamed method')}, "
                "which cannot be read yet",
                hint="take the original model, or a GGUF of it",
            )


def load_model(
    checkpoint: Checkpoint,
    placement: Placement,
    context_length: int,
    progress: Callable[[int], None] | None = None,
) -> CausalLM:
    """Load every tensor and build the model; raises a CheckpointError that names what does not fit.

    context_length: the positions that a sequence may reach, which decides length-dependent RoPE rules.
    progress: called with the bytes of each tensor read.
    """
    if not checkpoint.names():
        raise MissingTensor(
            f"{checkpoint.path.name} holds only a vocabulary, no weights", hint="llm tokenize can use it"
        )
    model = find_architecture(checkpoint)
    config = model_config(checkpoint)
    source = Source(
        checkpoint=checkpoint,
        translate=model.translate(checkpoint),
        dtype=placement.dtype,
        device=placement.device,
        hold=placement.hold,
        packer=None if placement.isa is None else Packer(placement.isa, Memory(), checkpoint.forget),
        progress=progress,
    )
    with torch.inference_mode():
        loaded = model(config, Weights(source), context_length)
        if source.packer is not None:
            source.packer.finish()
        return loaded
