"""What goes into every weight matrix while a text is run: sums of squares by column, and how many tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ..models.base import CausalLM
from ..models.cache import Cache, CacheTypes, KVCache
from ..quant.imatrix import Entry, ImportanceMatrix
from .alone import run_alone
from .backend import BLOCK_SIZE, Backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..quant.linear import Linear

_OF_LAYERS: Final = "blk."


class Activations:
    """Sums over the tokens that a model computed while it was watched, for each matrix and each of its experts.

    Names are GGUF's, whatever the checkpoint's format; all experts are one matrix of as many parts.
    with_output: also the matrix that makes the logits, `output.weight`, or `token_embd.weight` if that does it.
    """

    def __init__(self, model: CausalLM, *, with_output: bool = False) -> None:
        self.with_output = with_output
        self._matrices: Mapping[str, list[Linear]] = MappingProxyType(
            {
                name: matrices
                for name, matrices in model.matrices.items()
                if with_output or name.startswith(_OF_LAYERS)
            }
        )
        self._sums: dict[str, Tensor] = {}  # float64 [experts, columns]
        self._counts: dict[str, list[int]] = {}
        # Queries, keys and values come from the same activations: they are squared once.
        self._last: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is computed inside, by the path that is not a native program."""
        everyone = [
            (n, i, matrix) for n, matrices in self._matrices.items() for i, matrix in enumerate(matrices)
        ]
        for name, index, matrix in everyone:
            matrix.observer = partial(self._observe, name, index)
        try:
            yield
        finally:
            self._last = None
            for _, _, matrix in everyone:
                matrix.observer = None

    def matrix(self, dataset: str, chunk_size: int) -> ImportanceMatrix:
        """Return what was counted so far."""
        entries = {
            name: Entry(sums.float().cpu().numpy(), torch.tensor(self._counts[name]).numpy())
            for name, sums in self._sums.items()
        }
        most = max((max(counts) for counts in self._counts.values()), default=0)
        return ImportanceMatrix(entries, (dataset,), most // chunk_size, chunk_size)

    def _observe(self, name: str, index: int, x: Tensor) -> None:
        """Add the rows of x [T, columns]."""
        if name not in self._sums:
            parts = len(self._matrices[name])
            self._sums[name] = torch.zeros(parts, x.shape[-1], dtype=torch.float64, device=x.device)
            self._counts[name] = [0] * parts
        if self._last is None or self._last[0] is not x:
            self._last = (x, x.float().square().sum(0))
        self._sums[name][index] += self._last[1]
        self._counts[name][index] += len(x)


def observe(
    backend: Backend, model: CausalLM, activations: Activations, windows: Sequence[Sequence[int]]
) -> Iterator[int]:
    """Run each window on its own while the activations watch; yields the number of tokens of each.

    The model computes part by part, with the packed matrices that it has, but never as one native program.
    """
    cache = _cache(backend, model, max(len(window) for window in windows))
    for window in windows:
        with activations.watching():
            run_alone(model, cache, list(window), 0 if activations.with_output else len(window))
        yield len(window)


def _cache(backend: Backend, model: CausalLM, num_tokens: int) -> Cache:
    """Return a cache that native programs do not use: of float32 beside packed matrices, which give float32."""
    if backend.isa is None:
        return backend.new_cache(model, num_tokens)
    blocks = -(-num_tokens // BLOCK_SIZE)
    return KVCache(model.cache_spec(), blocks, BLOCK_SIZE, CacheTypes("f32", "f32"), backend.device)
