"""Quantizations by file names, and the best for a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from mull.registry.sources.quants import Choice, Machine, best, quant_of, this_machine

GB = 10**9


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("a-Q4_K_M.gguf", "Q4_K_M"),
        ("UD-Q4_K_XL/x-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("x.q8_0.gguf", "Q8_0"),
        ("Qwen2.5-IQ3_XXS.gguf", "IQ3_XXS"),
        ("gpt-oss-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("BF16/m-00001-of-00003.gguf", "BF16"),
        ("Q4-of-something.gguf", ""),
        ("m.gguf", ""),
    ],
)
def test_names_tell_the_quantization(path: str, quant: str) -> None:
    assert quant_of(path) == quant


def choices(**sizes: float) -> list[Choice]:
    return [Choice((f"m-{quant}.gguf",), int(size * GB)) for quant, size in sizes.items()]


@pytest.mark.parametrize(
    ("memory", "disk", "chosen", "why"),
    [
        (64, 900, "Q8_0", "the best of 5 that fits"),
        (10, 900, "Q6_K", "the best of 5 that fits"),
        (8, 900, "Q4_K_M", "in 8.0 GB of memory"),
        (64, 5, "Q4_K_M", "and 5.0 GB of free disk"),
        (2, 900, "Q4_1", "still more than 2.0 GB of memory hold"),
    ],
)
def test_the_best_that_fits(memory: int, disk: int, chosen: str, why: str) -> None:
    offered = choices(F16=16, Q8_0=8.5, Q6_K=6.6, Q4_K_M=4.9, Q4_1=4.7)
    found, reason = best(offered, Machine(memory * GB, disk * GB))
    assert found.quant == chosen
    assert why in reason


def test_full_precision_is_the_last_resort() -> None:
    assert best(choices(F16=1, Q4_0=0.4), Machine(64 * GB, 64 * GB))[0].quant == "Q4_0"
    assert best(choices(F16=1), Machine(64 * GB, 64 * GB))[0].quant == "F16"


def test_this_machine_has_memory_and_disk(tmp_path: Path) -> None:
    machine = this_machine(tmp_path / "not" / "there" / "yet")
    assert machine.memory > 0
    assert machine.disk > 0
