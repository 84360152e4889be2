"""Rotary position embedding: the angles of every scaling rule, and the turning of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import CorruptFile, NotSupported
from ...kernels.cpu.program import Place, Recorder
from ...kernels.dispatch import find
from ..config import RopeConfig

Rule = Callable[[Tensor, RopeConfig, int], tuple[Tensor, float]]


class Rotary:
    """The angles of one RopeConfig, fixed for the life of a KV cache of `context_length` positions.

    Rules that depend on the length of the text (dynamic NTK, longrope) are decided once by context_length: keys
    that were cached under one rule must never meet queries under another.
    factors: [dim/2], divides the frequencies (GGUF's rope_freqs.weight).
    """

    def __init__(
        self, config: RopeConfig, context_length: int, device: torch.device, factors: Tensor | None = None
    ) -> None:
        if config.kind not in _RULES:
            known = ", ".join(sorted(_RULES))
            raise NotSupported(f"unknown RoPE scaling '{config.kind}'", hint=f"supported: {known}")
        exponents = torch.arange(0, config.dim, 2, dtype=torch.float32) / config.dim
        frequencies = 1.0 / torch.pow(torch.tensor(config.theta, dtype=torch.float32), exponents)
        try:
            frequencies, default_scale = _RULES[config.kind](frequencies, config, context_length)
            usable = bool(frequencies.isfinite().all()) and math.isfinite(default_scale)
        except (ArithmeticError, ValueError):
            usable = False
        if not usable:
            raise CorruptFile(f"the configuration's numbers for RoPE scaling '{config.kind}' give no angles")
        if factors is not None:
            frequencies = frequencies / factors.cpu().float()
        self.frequencies = frequencies.to(device)
        self.scale = default_scale if config.attention_factor is None else config.attention_factor
        self.interleaved = config.interleaved
        self._rope = find("rope", device=device.type)

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [T, dim/2] of positions [T], scaled by the rule's attention factor."""
        angles = positions[:, None].float() * self.frequencies
        return angles.cos() * self.scale, angles.sin() * self.scale

    def __call__(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Turn x [T, heads, D]."""
        turned: Tensor = self._rope(x, *tables, self.interleaved)
        return turned

    def record(self, tape: Recorder) -> Place:
        """Write the computation of the angles down, once; returns their place."""
        name = f"angles {id(self)}"
        known = tape.has(name)
        angles = tape.buffer(name, 2 * len(self.frequencies))
        if not known:
            tape.angles(angles, self.frequencies, self.scale)
        return angles


def _default(frequencies: Tensor, config: RopeConfig, context: int) -> tuple[Tensor, float]:
    return frequencies, 1.0


def _linear(frequencies: Tensor, config: RopeConfig, context: int) -> tuple[Tensor, float]:
    """Position interpolation (Chen et al., 2023)."""
    return frequencies / config.factor, 1.0


def _dynamic(frequencies: Tensor, config: RopeConfig, context: int) -> tuple[Tensor, float]:
    """Dynamic NTK: the base grows with the context beyond the trained length."""
    trained = config.original_context
    length = max(context, trained)
    stretch = config.factor * length / trained - (config.factor - 1)
    theta = config.theta * stretch ** (config.dim / (config.dim - 2))
    exponents = torch.arange(0, config.dim, 2, dtype=torch.float32) / config.dim
    return 1.0 / torch.pow(torch.tensor(theta, dtype=torch.float32), exponents), 1.0


def _yarn(frequencies: Tensor, config: RopeConfig, context: int) -> tuple[Tensor, float]:
    """YaRN (Peng et al., 2023): interpolate slow dimensions, keep fast ones, ramp between."""

    def dimension(rotations: float) -> float:
        """Return which dimension makes `rotations` full turns over the trained context."""
        return (
            config.dim
            * math.log(config.original_context / (rotations * 2 * math.pi))
            / (2 * math.log(config.theta))
        )

    low, high = dimension(config.beta_fast), dimension(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.dim - 1)
    span = (high - low) or 0.001
    interpolated = ((torch.arange(config.dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)
    mixed = frequencies / config.factor * interpolated + frequencies * (1 - interpolated)

    def magnitude(weight: float) -> float:
        return 1.0 if config.factor <= 1 else 0.1 * weight * math.log(config.factor) + 1.0

    if config.mscale and config.mscale_all_dim:
        return mixed, magnitude(config.mscale) / magnitude(config.mscale_all_dim)
    return mixed, magnitude(1.0)


def _llama3(frequencies: Tensor, config: RopeConfig, context: int) -> tuple[Tensor, float]:
    """Llama 3.1's rule: long wavelengths are divided by the factor, short ones kept, a ramp between."""
    wavelength = 2 * math.pi / frequencies
    turns = config.original_context / wavelength
    kept = ((turns - config.low_freq) / (config.high_freq - config.low_freq)).clamp(0, 1)
    return (1 - kept) * frequencies / config.factor + kept * frequencies, 1.0


def _longrope(frequencies: Tensor, config: RopeConfig, context: int) -> tuple[Tensor, float]:
    """LongRoPE (Ding et al., 2024): learnt divisors, one set for short and one for long contexts."""
    long = context > config.original_context
    factors = config.long_factor if long else config.short_factor
    if len(factors) != len(frequencies):
        raise CorruptFile(f"longrope needs {len(frequencies)} factors and the checkpoint has {len(factors)}")
    scale = 1.0
    if config.factor > 1:
        scale = math.sqrt(1 + math.log(config.factor) / math.log(config.original_context))
    return frequencies / torch.tensor(factors), scale


_RULES: dict[str, Rule] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
}
