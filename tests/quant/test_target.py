"""A mixture for a size: what may be chosen, how it is chosen, and what rounding costs."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from mull.quant.dtype import dtype
from mull.quant.encode import encode
from mull.quant.qtensor import QTensor
from mull.quant.rounding import rounding_errors
from mull.quant.target import Item, Option, groups, possible_types, probe_type, solve

Q4, Q6, F16, F32 = (dtype(name) for name in ("q4_0", "q6_k", "f16", "f32"))


def items(count: int, seed: int) -> list[Item]:
    """Draw matrices whose larger options cost less."""
    rng = random.Random(seed)
    made = []
    for index in range(count):
        sizes = sorted(rng.sample(range(100, 2000), 4))
        costs = sorted((rng.random() for _ in sizes), reverse=True)
        options = tuple(Option(Q4, size, cost) for size, cost in zip(sizes, costs, strict=True))
        made.append(Item(f"blk.{index}.x.weight", options))
    return made


@pytest.mark.parametrize("seed", range(10))
def test_the_best_of_all_choices_is_found(seed: int) -> None:
    given = items(5, seed)
    least = sum(item.smallest.nbytes for item in given)
    most = sum(max(option.nbytes for option in item.options) for item in given)
    for room in (least, least + 1, (least + most) // 2, most - 1, most, 2 * most):
        found = solve(given, room)
        assert found is not None
        assert sum(option.nbytes for option in found.values()) <= room
        combinations = itertools.product(*(item.options for item in given))
        best = min(sum(o.cost for o in c) for c in combinations if sum(o.nbytes for o in c) <= room)
        assert sum(option.cost for option in found.values()) == pytest.approx(best)
    assert solve(given, least - 1) is None


def test_many_large_matrices_fill_the_room() -> None:
    given = [
        Item(item.name, tuple(Option(o.kind, o.nbytes * 1_000_003, o.cost) for o in item.options))
        for item in items(300, 0)
    ]
    least = sum(item.smallest.nbytes for item in given)
    most = sum(max(option.nbytes for option in item.options) for item in given)
    room = least + (most - least) // 3
    found = solve(given, room)
    assert found is not None
    assert 0.999 * room < sum(option.nbytes for option in found.values()) <= room


def test_a_larger_option_that_costs_more_is_not_chosen() -> None:
    item = Item("a", (Option(Q4, 10, 1.0), Option(Q6, 20, 2.0), Option(F16, 30, 0.5)))
    for room, expected in ((15, Q4), (25, Q4), (30, F16)):
        found = solve([item], room)
        assert found is not None
        assert found["a"].kind is expected
    same = solve([Item("b", (Option(Q4, 10, 0.0), Option(F16, 30, 0.0)))], 20)
    assert same is not None
    assert same["b"].kind is Q4


def names(*args: object, **options: object) -> list[str]:
    return [kind.name for kind in possible_types(*args, **options)]  # type: ignore[arg-type]


def test_what_a_matrix_may_become() -> None:
    found = names(F16, (4, 256), 4.5, weighted=True)
    assert {"q2_k", "iq3_xxs", "q4_k", "q8_0", "f16"} <= set(found)
    assert not {"f32", "bf16", "iq2_xs"} & set(found)
    assert "iq2_xs" in names(F16, (4, 256), 2.5, weighted=True)
    assert not {"iq2_xs", "iq3_xxs"} & set(names(F16, (4, 256), 2.5, weighted=False))
    assert {"f16", "bf16", "f32"} <= set(names(F32, (4, 256), 4.5, weighted=False))
    assert names(F16, (4, 64), 4.5, weighted=True) == ["iq4_nl", "q4_1", "q5_0", "q5_1", "q8_0", "f16"]
    assert names(F16, (4, 60), 4.5, weighted=True) == ["f16"]
    assert names(Q6, (4, 256), 4.5, weighted=False)[-2:] == ["q5_k", "q6_k"]


def test_what_is_tried() -> None:
    kinds = possible_types(F16, (4, 256), 4.5, weighted=True)
    assert probe_type(kinds, 4.5).bits == 4.5
    assert probe_type(kinds, 8.0).bits == 4.5
    assert probe_type(kinds, 3.5).name in ("iq3_s", "q3_k")
    assert probe_type([Q6, F16], 3.5) is Q6


def test_groups_are_of_one_kind_and_of_neighbours() -> None:
    many = [f"blk.{i}.{kind}.weight" for i in range(12) for kind in ("attn_q", "ffn_up")]
    found = groups(["token_embd.weight", *many], 7)
    assert [len(group) for group in found] == [1, 4, 4, 4, 4, 4, 4]
    assert found[1] == [f"blk.{i}.attn_q.weight" for i in range(4)]
    assert sorted(itertools.chain(*found)) == sorted(["token_embd.weight", *many])
    assert all(len(group) == 1 for group in groups(many, 100))
    assert len(groups(many, 1)) == 2


@pytest.mark.parametrize("shape", [(8, 64), (3, 8, 64)])
def test_the_error_of_rounding(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = QTensor((torch.randn(shape),), F32, shape)
    matrices = shape[0] if len(shape) == 3 else 1
    importance = np.random.default_rng(0).random((matrices, 64), dtype=np.float32) + 0.1
    table = torch.from_numpy(importance)
    errors, energy = rounding_errors(weight, [Q4, dtype("q8_0"), F32], importance)
    rounded = encode(weight, Q4, table).dequantize()
    used = table.view(matrices, 1, 64).expand(matrices, 8, 64).reshape(shape)
    assert errors["q4_0"] == pytest.approx(float(((rounded - weight.parts[0]) ** 2 * used).sum()), rel=1e-4)
    assert energy == pytest.approx(float((weight.parts[0] ** 2 * used).sum()), rel=1e-4)
    assert errors["f32"] == 0 < errors["q8_0"] < errors["q4_0"]


def test_large_matrices_are_sampled() -> None:
    torch.manual_seed(0)
    shape = (6000, 256)
    weight = QTensor((torch.randn(shape),), F32, shape)
    errors, energy = rounding_errors(weight, [Q4], None)
    exact = float(((encode(weight, Q4).dequantize() - weight.parts[0]) ** 2).sum())
    assert errors["q4_0"] == pytest.approx(exact, rel=0.02)
    assert energy == pytest.approx(6000 * 256, rel=0.02)
