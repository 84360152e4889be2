"""How a model is to be loaded, as its user says; of no weight itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model.

    num_ctx: context length (None: the model's own); threads: CPU threads (None: cores); cache_type_k, cache_type_v:
    what keys and values are stored in; cpu: the instruction set of native kernels (None: the best, "none": torch);
    quantize: the type that matrices get as they are loaded (quant/load_types.py).
    """

    dtype: str = "auto"
    device: str = "auto"
    num_ctx: int | None = None
    threads: int | None = None
    cache_type_k: str = "auto"
    cache_type_v: str = "auto"
    cpu: str | None = None
    quantize: str | None = None
