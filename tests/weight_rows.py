"""Rows of weights for tests of quantizers: like those of models, and unlike any."""

from __future__ import annotations

import torch
from torch import Tensor


def natural(rows: int, cols: int, seed: int = 0) -> dict[str, Tensor]:
    """Return rows as trained models have them: float32 [rows, cols] by name."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    spread = normal(1, cols).mul(0.5).exp() * normal(rows, 1).mul(0.3).exp() * 0.02
    outliers = normal(rows, cols) * 0.02
    outliers[torch.rand(rows, cols, generator=generator) < 0.002] *= 30
    heavy = normal(rows, cols) / normal(rows, cols, 4).square().mean(-1).sqrt()
    return {
        "gaussian": normal(rows, cols) * 0.02,
        "heavy": heavy * 0.02,
        "columns": normal(rows, cols) * spread,
        "outliers": outliers,
        "halves": (normal(rows, cols) * 0.02).half().float(),
    }


def extreme(rows: int, cols: int, seed: int = 0) -> dict[str, Tensor]:
    """Return rows that break what assumes weights to vary, to have both signs or to be of ordinary size."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((rows, cols), generator=generator)
    zeros = torch.zeros(rows, cols)
    single, spiked, lone, mixed = zeros.clone(), noise * 0.01, zeros.clone(), zeros.clone()
    single[:, 5], single[:, -20] = 3, -2
    spiked[:, ::256] = 5
    lone[:, :32] = noise[:, :32]
    mixed[:, ::3] = -0.0
    return {
        "zeros": zeros,
        "minus zeros": -zeros,
        "mixed zeros": mixed,
        "constant": zeros + 0.3,
        "negative constant": zeros - 0.3,
        "single": single,
        "spiked": spiked,
        "lone group": lone,
        "denormal": noise * 1e-39,
        "tiny": noise * 1e-20,
        "small": noise * 1e-6,
        "large": noise * 1000,
        "positive": noise.abs() * 0.1,
        "shifted": 1 + noise * 0.1,
        "ternary": torch.randint(-1, 2, (rows, cols), generator=generator) * 0.02,
        "signs": noise.sign() * 0.25,
        "ties": torch.randint(-16, 17, (rows, cols), generator=generator) * 0.5,
    }


def importance(cols: int, seed: int = 0) -> Tensor:
    """Return how much columns matter, as activations have it: over a few powers of ten."""
    return torch.randn(cols, generator=torch.Generator().manual_seed(seed)).mul(1.5).exp()
