"""What activations are counted equals what hooks on transformers' models see, matrix by matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mull.kernels.cpu.native import instruction_sets
from mull.models.checkpoint.open import open_checkpoint
from mull.quant.imatrix import ImportanceMatrix
from mull.runtime.activations import Activations, observe
from mull.runtime.backend import Backend
from mull.runtime.load_options import LoadOptions

COMPUTED_BY = ["none", *(isa.name for isa in instruction_sets()[:1])]
NAMES = ["llama-tied-biased", "qwen3", "gemma3", "phi3", "olmo2", "mixtral", "qwen3moe", "qwen3moe-mixed"]
LENGTH = 24
Sums = dict[str, np.ndarray]


def windows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, tiny.VOCAB, (2, LENGTH), generator=generator).tolist()


def theirs(model: torch.nn.Module) -> tuple[Sums, dict[str, list[int]]]:
    """Return sums [experts, columns] and counts by our names, from hooks on every matrix."""
    sums: Sums = {}
    counts: dict[str, list[int]] = {}

    def add(name: str, index: int, experts: int, x: torch.Tensor) -> None:
        rows = x.detach().double().reshape(-1, x.shape[-1])
        sums.setdefault(name, np.zeros((experts, rows.shape[1])))[index] += rows.square().sum(0).numpy()
        counts.setdefault(name, [0] * experts)[index] += len(rows)

    def dense(name: str) -> Callable[..., None]:
        return lambda module, args: add(name, 0, 1, args[0])

    def sparse(block: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x, chosen = args[0], args[1]
            for expert in range(module.num_experts):
                rows = x[(chosen == expert).any(-1)]
                gate, up = torch.nn.functional.linear(rows, module.gate_up_proj[expert]).chunk(2, dim=-1)
                add(f"{block}.ffn_gate_exps.weight", expert, module.num_experts, rows)
                add(f"{block}.ffn_up_exps.weight", expert, module.num_experts, rows)
                inner = module.act_fn(gate) * up
                add(f"{block}.ffn_down_exps.weight", expert, module.num_experts, inner)

        return hook

    for key, module in model.named_modules():
        name = tiny._gguf_name(f"{key}.weight", sandwich=False)
        if isinstance(module, torch.nn.Linear) or type(module).__name__.endswith("Router"):
            module.register_forward_pre_hook(dense(name))
        if key.endswith("mlp.experts"):
            module.register_forward_pre_hook(sparse(f"blk.{key.split('.')[2]}"))
    with torch.no_grad():
        for ids in windows():
            model(torch.tensor([ids]))
    return sums, counts


def ours(path: Path, cpu: str, *, with_output: bool = False) -> ImportanceMatrix:
    with open_checkpoint(path) as checkpoint:
        backend = Backend(checkpoint, LoadOptions(num_ctx=LENGTH, threads=1, cpu=cpu))
        model = backend.load(None)
        activations = Activations(model, with_output=with_output)
        assert list(observe(backend, model, activations, windows())) == [LENGTH, LENGTH]
        return activations.matrix("text", LENGTH)


@pytest.mark.parametrize("cpu", COMPUTED_BY)
@pytest.mark.parametrize("name", NAMES)
def test_sums_equal_those_of_hooks(name: str, cpu: str, tmp_path: Path) -> None:
    sums, counts = theirs(tiny.save(name, tmp_path))
    found = ours(tmp_path, cpu)
    expected = {name for name in sums if name.startswith("blk.")}
    assert set(found.entries) == expected
    assert len(expected) >= 8
    for name in expected:
        entry = found.entries[name]
        assert entry.counts.tolist() == counts[name]
        np.testing.assert_allclose(entry.sums, sums[name], rtol=1e-3, atol=1e-4 * sums[name].max())
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("text",), 2, LENGTH)


def test_gguf_and_safetensors_give_the_same(tmp_path: Path) -> None:
    model = tiny.save("llama", tmp_path)
    path = tiny.write_gguf(model, "llama", tmp_path / "llama.gguf")
    a, b = ours(tmp_path, "none"), ours(path, "none")
    assert set(a.entries) == set(b.entries)
    for name, entry in a.entries.items():
        np.testing.assert_allclose(entry.sums, b.entries[name].sums, rtol=1e-4)


@pytest.mark.parametrize(("name", "output"), [("llama", "output.weight"), ("qwen3", "token_embd.weight")])
def test_the_output_is_counted_on_request(name: str, output: str, tmp_path: Path) -> None:
    sums, _ = theirs(tiny.save(name, tmp_path))
    assert output not in ours(tmp_path, "none").entries
    entry = ours(tmp_path, "none", with_output=True).entries[output]
    assert entry.counts.tolist() == [2 * LENGTH]
    np.testing.assert_allclose(entry.sums, sums["output.weight"], rtol=1e-3)


def test_nothing_is_counted_outside(tmp_path: Path) -> None:
    tiny.save("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        backend = Backend(checkpoint, LoadOptions(num_ctx=LENGTH, threads=1, cpu="none"))
        model = backend.load(None)
        activations = Activations(model)
        with activations.watching():
            pass
        matrix = model.matrices["blk.0.attn_q.weight"][0]
        assert matrix.observer is None
        matrix(torch.ones(1, 64))
        assert not activations.matrix("text", LENGTH).entries
