"""Models written in other types: what the new file holds and says, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_files import Typed as PeerTyped
from gguf_files import write_gguf
from mull.errors import CheckpointError, CorruptFile, InvalidRequest, NotSupported, ShapeMismatch
from mull.kernels.cpu import native
from mull.models import quantize
from mull.models.checkpoint.gguf import GGUFCheckpoint
from mull.models.checkpoint.gguf_values import Typed, ValueType
from mull.models.checkpoint.gguf_writer import write_gguf as write_ours
from mull.models.quantize import Output, check_plan, make_plan, parse_pair, run_plan, target_paths
from mull.models.quantize_source import checkpoint_source, converted_source
from mull.quant import dtype as dtypes
from mull.quant.dtype import DTYPES, DType
from mull.quant.file_types import file_type
from mull.quant.mixture import MixtureOptions
from mull.quant.qtensor import QTensor

RNG = np.random.default_rng(0)
METADATA = {
    "general.name": "tiny",
    "general.file_type": 0,
    "llama.block_count": 1,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": [2, 2],
    "llama.context_length": PeerTyped(4096, gguf.GGUFValueType.UINT64),
    "tokenizer.ggml.scores": [0.5, 1.5],
}
ARRAYS = {
    "token_embd.weight": RNG.standard_normal((40, 64)).astype(np.float32),
    "output_norm.weight": np.ones(64, dtype=np.float32),
    "blk.0.attn_q.weight": RNG.standard_normal((64, 64)).astype(np.float32),
    "blk.0.ffn_up_exps.weight": RNG.standard_normal((3, 32, 64)).astype(np.float32),
    "blk.0.ffn_gate_inp.weight": RNG.standard_normal((3, 64)).astype(np.float32),
}


class Table:
    """Importance by name."""

    def __init__(self, **tables: np.ndarray) -> None:
        self.tables = tables

    def for_tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        return self.tables.get(name.removeprefix("blk.0.").removesuffix(".weight"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "s.gguf", METADATA, ARRAYS)


def run(source: Path, target: Path, kind: str | None, importance: Table | None = None, **asked) -> list[Path]:
    output = {key: asked.pop(key) for key in list(asked) if key in ("keep_split", "split_max_tensors")}
    with GGUFCheckpoint(source) as checkpoint:
        options = MixtureOptions(None if kind is None else file_type(kind), **asked)
        plan = make_plan(checkpoint_source(checkpoint), options)
        return run_plan(plan, Output(target, **output), importance)


def test_matrices_change_and_the_rest_stays(model, tmp_path):
    (written,) = run(model, tmp_path / "t.gguf", "Q8_0")
    reader = gguf.GGUFReader(written)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert list(found) == sorted(ARRAYS, key=lambda name: (name.startswith("blk"), name))
    for name, array in ARRAYS.items():
        if name in ("output_norm.weight", "blk.0.ffn_gate_inp.weight"):
            assert np.array_equal(found[name].data, array)
        else:
            expected = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            assert np.array_equal(found[name].data, expected)


def test_metadata_keeps_its_types(model, tmp_path):
    (written,) = run(model, tmp_path / "t.gguf", "Q8_0")
    before, after = gguf.GGUFReader(model).fields, gguf.GGUFReader(written).fields
    for key in METADATA:
        if key != "general.file_type":
            assert (after[key].types, after[key].contents()) == (before[key].types, before[key].contents())
    assert after["general.file_type"].contents() == 7
    assert after["general.quantization_version"].contents() == 2


def test_a_copy_is_the_same_file(model, tmp_path):
    (written,) = run(model, tmp_path / "t.gguf", None)
    assert written.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("kind", ["Q8_0", "F16", None])
def test_pieces_make_the_same_file(model, tmp_path, monkeypatch, kind):
    (whole,) = run(model, tmp_path / "a.gguf", kind)
    monkeypatch.setattr(quantize, "_PIECE", 5 * 64)
    (pieces,) = run(model, tmp_path / "b.gguf", kind)
    assert whole.read_bytes() == pieces.read_bytes()


def test_importance_reaches_the_rows_of_its_expert(model, tmp_path, monkeypatch):
    seen: list[tuple[tuple[int, ...], float | None]] = []

    def quantizer(values: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
        seen.append((tuple(values.shape), None if importance is None else float(importance[0])))
        return torch.zeros(len(values), 68, dtype=torch.uint8)

    monkeypatch.setitem(dtypes._quantizers, "q8_0", quantizer)
    monkeypatch.setattr(native, "encode", lambda *arguments: False)  # or it would come first
    monkeypatch.setattr(quantize, "_PIECE", 20 * 64)
    experts = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
    run(model, tmp_path / "t.gguf", "Q8_0", Table(ffn_up_exps=experts), pure=True)
    rows = [(shape[0], first) for shape, first in seen if first is not None]
    assert [(sum(n for n, f in rows if f == first), first) for first in (0, 64, 128)] == [
        (32, 0),
        (32, 64),
        (32, 128),
    ]


@pytest.mark.parametrize("kind", ["Q8_0", "F16", "F32", None])
@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "output_norm.weight"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, kind, name, bad):
    arrays = {key: array.copy() for key, array in ARRAYS.items()}
    arrays[name].flat[-1] = bad
    source = write_gguf(tmp_path / "s.gguf", METADATA, arrays)
    with pytest.raises(CorruptFile, match=rf"s\.gguf: {name}: a weight is not finite"):
        run(source, tmp_path / "t.gguf", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["s.gguf"]


def test_the_progress_is_of_the_sources_bytes(model, tmp_path):
    seen: list[tuple[int, int]] = []
    with GGUFCheckpoint(model) as checkpoint:
        plan = make_plan(checkpoint_source(checkpoint), MixtureOptions(file_type("Q8_0")))
        run_plan(plan, Output(tmp_path / "t.gguf"), None, lambda done, total: seen.append((done, total)))
        assert seen[-1] == (checkpoint.nbytes, checkpoint.nbytes)
        assert seen == sorted(seen)


def test_parts_are_kept_made_and_joined(model, tmp_path):
    parts = run(model, tmp_path / "p.gguf", None, split_max_tensors=2)
    assert [path.name for path in parts] == [f"p-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    kept = run(parts[0], tmp_path / "k.gguf", "Q8_0", keep_split=True)
    names = [[t.name for t in gguf.GGUFReader(path).tensors] for path in parts]
    assert [sorted(t.name for t in gguf.GGUFReader(path).tensors) for path in kept] == [
        sorted(n) for n in names
    ]
    (joined,) = run(parts[1], tmp_path / "j.gguf", None)
    assert joined.read_bytes() == model.read_bytes()
    with GGUFCheckpoint(parts[0]) as checkpoint:
        plan = make_plan(checkpoint_source(checkpoint), MixtureOptions(None))
        assert target_paths(plan, Output(tmp_path / "k.gguf", keep_split=True)) == kept


def plan_of(path: Path, kind: str | None, **asked) -> quantize.Plan:
    with GGUFCheckpoint(path) as checkpoint:
        options = MixtureOptions(None if kind is None else file_type(kind), **asked)
        return make_plan(checkpoint_source(checkpoint), options)


def test_rounding_twice_has_to_be_insisted_on(model, tmp_path):
    (small,) = run(model, tmp_path / "q.gguf", "Q8_0")
    plan = plan_of(small, "Q4_0")
    with pytest.raises(InvalidRequest, match=r"blk\.0\.attn_q\.weight is q8_0 already") as caught:
        check_plan(plan, allow_requantize=False, importance=None)
    assert caught.value.hint is not None
    assert "--allow-requantize" in caught.value.hint
    check_plan(plan_of(small, "Q8_0"), allow_requantize=False, importance=None)
    check_plan(plan_of(small, "F16"), allow_requantize=True, importance=None)
    run(small, tmp_path / "again.gguf", "F16")


def test_coarse_types_need_importance(tmp_path, monkeypatch):
    monkeypatch.setitem(dtypes._quantizers, "iq2_xs", lambda values, importance: values)
    monkeypatch.setitem(dtypes._quantizers, "q6_k", lambda values, importance: values)
    arrays = {"token_embd.weight": np.zeros((4, 256)), "blk.0.attn_q.weight": np.zeros((4, 256))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    plan = plan_of(write_gguf(tmp_path / "s.gguf", METADATA, arrays), "IQ2_XS", pure=True)
    with pytest.raises(InvalidRequest, match=r"blk\.0\.attn_q\.weight would become iq2_xs"):
        check_plan(plan, allow_requantize=False, importance=None)
    with pytest.raises(InvalidRequest, match=r"has nothing for blk\.0\.attn_q\.weight"):
        check_plan(plan, allow_requantize=False, importance=Table())
    table = Table(attn_q=np.ones((1, 256), dtype=np.float32))
    check_plan(plan, allow_requantize=False, importance=table)


def test_importance_of_another_model(model, tmp_path):
    with pytest.raises(ShapeMismatch, match=r"blk\.0\.attn_q\.weight: an importance of shape \[1, 63\]"):
        run(model, tmp_path / "t.gguf", "Q8_0", Table(attn_q=np.ones((1, 63), dtype=np.float32)))


def test_types_that_cannot_be_made_are_told_at_once(model, monkeypatch):
    plan = plan_of(model, "Q8_0")
    monkeypatch.delitem(dtypes._quantizers, "q8_0")
    with pytest.raises(NotSupported, match="q8_0 cannot be made"):
        check_plan(plan, allow_requantize=False, importance=None)


def test_metadata_is_set(model, tmp_path):
    with GGUFCheckpoint(model) as checkpoint:
        source = checkpoint_source(checkpoint)
        texts = [
            "llama.context_length=int:8192", "new=int:-5", "x=float:0.5", "y=bool:true", "general.name=str:a=b:c",
        ]  # fmt: skip
        changed = dict(parse_pair(text, source) for text in texts)
        plan = make_plan(source, MixtureOptions(None), changed)
        run_plan(plan, Output(tmp_path / "t.gguf"))
    fields = gguf.GGUFReader(tmp_path / "t.gguf").fields
    found = {key: (int(fields[key].types[0]), fields[key].contents()) for key in changed}
    assert found == {
        "llama.context_length": (ValueType.UINT64, 8192),
        "new": (ValueType.INT32, -5),
        "x": (ValueType.FLOAT32, 0.5),
        "y": (ValueType.BOOL, True),
        "general.name": (ValueType.STRING, "a=b:c"),
    }


@pytest.mark.parametrize(
    "text", ["a", "a=5", "a=int:", "a=int:x", "a=float:y", "a=bool:maybe", "=int:5", "a=list:5"]
)
def test_metadata_that_cannot_be_set(model, text):
    with GGUFCheckpoint(model) as checkpoint, pytest.raises(InvalidRequest):
        parse_pair(text, checkpoint_source(checkpoint))


def test_recipes_follow_what_is_set(model):
    with GGUFCheckpoint(model) as checkpoint:
        source = checkpoint_source(checkpoint)
        assert (source.facts().num_experts, source.facts().heads_per_kv) == (0, 4)
        changed = {"llama.expert_count": Typed(8, ValueType.UINT32)}
        assert source.facts(changed).num_experts == 8


def test_a_model_without_tensors(tmp_path):
    write_ours(tmp_path / "s.gguf", {"general.architecture": "llama"}, [])
    with pytest.raises(CheckpointError, match="no tensors to quantize"):
        plan_of(tmp_path / "s.gguf", "Q8_0")


@dataclass(frozen=True)
class Converted:
    """What a converter hands over."""

    metadata: dict[str, Typed]
    tensors: list[Made]


@dataclass(frozen=True)
class Made:
    name: str
    shape: tuple[int, ...]
    dtype: DType
    load: Callable[[], QTensor]
    release: Callable[[], None]


def test_what_a_converter_makes(tmp_path):
    weights, released = torch.randn(4, 64).to(torch.bfloat16), []
    kind, shape = DTYPES["bf16"], (4, 64)
    made = Made(
        "blk.0.attn_q.weight",
        shape,
        kind,
        lambda: QTensor((weights,), kind, shape),
        lambda: released.append(1),
    )
    converted = Converted({"general.architecture": Typed("llama", ValueType.STRING)}, [made])
    source = converted_source(tmp_path, converted)
    assert source.facts().architecture == "llama"
    run_plan(make_plan(source, MixtureOptions(file_type("F32"))), Output(tmp_path / "t.gguf"))
    assert released == [1]
    with GGUFCheckpoint(tmp_path / "t.gguf") as checkpoint:
        assert torch.equal(checkpoint.load("blk.0.attn_q.weight").dequantize(), weights.float())
