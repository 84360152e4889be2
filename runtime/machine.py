"""What a machine offers a model: memory, and how fast it is read, which is measured in less than a second, once."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import OutOfMemory
from ..kernels.cpu import native
from ..kernels.device import available_memory, synchronize

# Far more than caches hold; what is shared by many cores has some hundred megabytes.
_MOST, _LEAST = 512 << 20, 32 << 20
_COLUMNS = 4096
_SECONDS, _PASSES = 0.4, 12


# What Python and torch take where the system does not tell.
_USUAL_PROCESS = 256 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known of the machine, in bytes.

    free: what a load could take now; total: what there is where nothing else runs; process: what a process takes
    before it loads anything, which `free` does not hold; bandwidth: bytes read per second, None if unknown.
    """

    free: int
    total: int
    process: int
    bandwidth: float | None = None


def process_bytes() -> int:
    """Return what this process has in memory now."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return _USUAL_PROCESS
    return pages * os.sysconf("SC_PAGE_SIZE")


def bandwidth(file: Path, backend: str, threads: int, measure: Callable[[], float], *, renew: bool) -> float:
    """Return bytes per second: those that `file` keeps for such a backend, or else measured and kept there."""
    key = f"{backend}, {threads} threads"
    kept = {} if renew else _read(file)
    if key in kept:
        return kept[key]
    found = measure()
    _write(file, {**_read(file), key: found})
    return found


def measure_reading(isa: native.Isa | None, device: torch.device, threads: int) -> float:
    """Measure the bytes per second that are read from memory; raises OutOfMemory where there is too little of it."""
    size = min(_MOST, available_memory(device) // 4)
    if size < _LEAST:
        raise OutOfMemory("too little memory is free to measure how fast it is read")
    if isa is None:
        torch.set_num_threads(threads)
        data = torch.zeros(size // 4, device=device)
        return size / _best(lambda: data.sum(), device)
    native.set_threads(threads)
    rows = size // native_row(isa) // native.Packed.ROWS * native.Packed.ROWS
    matrix = native.Packed(isa, "q8_0", (rows, _COLUMNS), native.Memory())
    nbytes = native.packed_bytes(isa, "q8_0", rows, _COLUMNS)
    assert nbytes is not None
    # Pages that nothing was written to are one page of zeros, which lies in the cache.
    ctypes.memset(matrix.address, 0, nbytes)
    x = torch.zeros(1, _COLUMNS)
    return nbytes / _best(lambda: matrix.multiply(x), device)


def native_row(isa: native.Isa) -> int:
    """Return the bytes of one packed row of the matrix that is read."""
    size = native.packed_bytes(isa, "q8_0", native.Packed.ROWS, _COLUMNS)
    assert size is not None
    return size // native.Packed.ROWS


def _best(read: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest pass: the others waited for somebody."""
    read()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _PASSES and (not taken or time.perf_counter() - begun < _SECONDS):
        synchronize(device)
        started = time.perf_counter()
        read()
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _read(file: Path) -> dict[str, float]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float) and value > 0}


def _write(file: Path, found: dict[str, float]) -> None:
    """Keep what was measured; a folder that cannot be written to only costs measuring again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".new")
        aside.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        aside.replace(file)
    except OSError:
        return
