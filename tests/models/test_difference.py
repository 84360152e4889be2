"""The error of each tensor that two files share."""

from __future__ import annotations

import math
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from mull.models.checkpoint.open import open_checkpoint
from mull.models.difference import WeightError, overall, weight_errors


def errors(base: dict[str, object], other: dict[str, object], folder: Path) -> list[WeightError]:
    paths = [gguf_files.write_gguf(folder / n, {}, t) for n, t in (("a.gguf", base), ("b.gguf", other))]
    with open_checkpoint(paths[0]) as a, open_checkpoint(paths[1]) as b:
        return list(weight_errors(a, b))


def test_errors_are_relative(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 32)).astype(np.float32)
    noise = 0.1 * rng.normal(size=x.shape).astype(np.float32)
    norm = np.ones(32, np.float32)
    found = errors(
        {"same": x[0], "experts": x, "q": x[0], "norm": norm, "odd": x[0], "only": x[0]},
        {"same": x[0], "experts": x + noise, "q": (x[0], "Q8_0"), "norm": norm, "odd": x[0, :2]},
        tmp_path,
    )
    assert [error.name for error in found] == ["same", "experts", "q"]
    same, experts, q = found
    assert same.error == 0
    assert experts.error == pytest.approx(np.linalg.norm(noise) / np.linalg.norm(x), rel=1e-5)
    assert (q.base_dtype, q.dtype, q.num_weights) == ("f32", "q8_0", 128)
    assert 0 < q.error < 0.01
    mean = (experts.error**2 * 384 + q.error**2 * 128) / (384 + 256)
    assert overall(found) == pytest.approx(math.sqrt(mean))


def test_a_change_from_nothing_is_infinite(tmp_path: Path) -> None:
    zeros, ones = np.zeros((2, 32), np.float32), np.ones((2, 32), np.float32)
    assert math.isinf(errors({"a": zeros}, {"a": ones}, tmp_path)[0].error)
    assert errors({"a": zeros}, {"a": (zeros, "Q8_0")}, tmp_path)[0].error == 0
    assert overall([]) == 0


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    x = np.ones((2, 32), np.float32)
    path = gguf_files.write_gguf(tmp_path / "a.gguf", {}, {"a": x, "b": x})
    seen: list[tuple[int, int]] = []
    with open_checkpoint(path) as checkpoint:
        list(weight_errors(checkpoint, checkpoint, lambda done, total: seen.append((done, total))))
    assert seen == [(64, 128), (128, 128)]
