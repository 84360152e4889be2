"""Quantizations by their names in file names, and which of several is best for this machine."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# From the best on; sizes tell little (Q4_1 is larger than Q4_K_M, and worse).
_ORDER = (
    "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "IQ4_NL", "IQ4_XS", "MXFP4",
    "NVFP4", "Q4_1", "Q4_0", "Q3_K_L", "Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS", "IQ3_XXS", "Q2_K",
    "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "TQ2_0", "TQ1_0", "IQ1_M", "IQ1_S",
)  # fmt: skip
_WHOLE = ("BF16", "F16", "FP16", "F32", "FP32")
_QUANT = re.compile(
    r"(?:(?<=^)|(?<=[-._/]))"
    r"((?:UD-)?(?:I?Q\d_(?:K(?:_(?:XXS|XS|XL|S|M|L))?|\d(?:_\d)*|XXS|XS|S|M|NL|XL)|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4"
    r"|BF16|FP?16|FP?32))"
    r"(?=$|[-._/])",
    re.IGNORECASE,
)
# What the context, the buffers and the system need beside the weights.
_SHARE, _BESIDE = 0.8, 512 << 20


def in_gb(count: int) -> str:
    """Write a size: `4.7 GB`, `637 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def quant_of(path: str) -> str:
    """Return the quantization that a file's path names, in capitals; empty if it names none."""
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", path, flags=re.IGNORECASE)
    for part in (stem.rpartition("/")[2], stem.rpartition("/")[0]):
        if found := _QUANT.findall(part):
            return str(found[-1]).upper()
    return ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the models that a repository offers: a GGUF file, or all the parts of a split one."""

    files: tuple[str, ...]
    size: int

    @property
    def quant(self) -> str:
        """The quantization that its name tells."""
        return quant_of(self.files[0])

    @property
    def label(self) -> str:
        """What a user calls it."""
        return self.quant or self.files[0]


@dataclass(frozen=True, slots=True)
class Machine:
    """What limits the choice: bytes of memory, and bytes free where models are stored."""

    memory: int
    disk: int

    @property
    def room(self) -> int:
        """Bytes of weights that fit into the memory, with the context beside them."""
        return max(0, int(self.memory * _SHARE) - _BESIDE)


def best(choices: list[Choice], machine: Machine) -> tuple[Choice, str]:
    """Choose the best that fits; return it with the reason. Full precision is taken where nothing else is there."""
    # Where two share a quantization, the shorter name is the plain one.
    ranked = sorted(choices, key=lambda choice: (_rank(choice.quant), len(choice.files[0]), choice.files[0]))
    if len(ranked) == 1:
        return ranked[0], "the only one there is"
    fitting = [choice for choice in ranked if choice.size <= machine.room]
    memory = f"{in_gb(machine.memory)} of memory"
    if not fitting:
        small = min(ranked, key=lambda choice: choice.size)
        return small, f"the smallest of {len(ranked)}, and still more than {memory} hold with a context"
    stored = [choice for choice in fitting if choice.size <= machine.disk]
    chosen = (stored or fitting)[0]
    reason = f"the best of {len(ranked)} that fits: {in_gb(chosen.size)}, in {memory}"
    if stored and stored[0] != fitting[0]:
        reason += f" and {in_gb(machine.disk)} of free disk"
    return chosen, reason


def this_machine(folder: Path) -> Machine:
    """Measure this machine; `folder`: where models are stored."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            memory = min(memory, int(Path(limit).read_text()))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return Machine(memory, disk.f_bavail * disk.f_frsize)


def _rank(quant: str) -> int:
    """Return a quantization's place: named ones first, then unknown ones, then full precision."""
    plain = quant.removeprefix("UD-")
    if plain in _WHOLE:
        return 1000 + _WHOLE.index(plain)
    for place, known in enumerate(_ORDER):
        if plain == known:
            return 10 * place
        # Q6_K_L, Q4_K_XL: the same with more bits for some tensors.
        larger = {f"{known}_{more}" for more in ("L", "XL", "MOE")} | {
            f"{known[:-2]}_{m}" for m in ("L", "XL")
        }
        if plain in larger:
            return 10 * place - 1
    return 900
