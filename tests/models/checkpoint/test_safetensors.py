"""Reading Hugging Face folders: tensors, what stands beside them, and what can be wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from mull.errors import CheckpointError, CorruptFile, MissingTensor, ModelNotFound, MullError, UnknownFormat
from mull.models.checkpoint.open import open_checkpoint
from mull.models.checkpoint.safetensors import SafetensorsCheckpoint
from safetensors.torch import save_file

WEIGHTS = torch.arange(6.0).view(2, 3)


def folder(path: Path, files: dict[str, dict[str, torch.Tensor]], **jsons: object) -> Path:
    """Write a model's folder; `jsons` are further files by their names without .json."""
    path.mkdir(exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, path / name, metadata={"format": "pt"})
    for name, value in {"config": {"model_type": "llama"}, **jsons}.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return path


def shards(path: Path) -> Path:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder(path, {names[0]: {"a": WEIGHTS}, names[1]: {"b": WEIGHTS + 6, "c": WEIGHTS}})
    index(path, {"a": names[0], "b": names[1], "c": names[1]})
    return path


def index(path: Path, weight_map: object) -> None:
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def opened(path: Path, content: bytes) -> SafetensorsCheckpoint:
    folder(path, {})
    (path / "model.safetensors").write_bytes(content)
    return SafetensorsCheckpoint(path)


# ── what is read ──────────────────────────────────────────────────────────────


def test_one_file(tmp_path):
    tensors = {
        "f32": WEIGHTS,
        "bf16": WEIGHTS.bfloat16(),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 4),
        "cube": torch.arange(24.0).view(2, 3, 4).half(),
    }
    checkpoint = open_checkpoint(folder(tmp_path / "m", {"model.safetensors": tensors}))
    assert checkpoint.format == "safetensors"
    assert checkpoint.architecture == "llama"
    assert dict(checkpoint.metadata) == {}
    assert set(checkpoint.names()) == set(tensors)
    for name, tensor in tensors.items():
        assert checkpoint.info(name).shape == tuple(tensor.shape)
        assert torch.equal(checkpoint.load(name).parts[0], tensor)
    assert checkpoint.dtype_counts() == {"f16": 24, "f32": 7, "bf16": 6}
    assert checkpoint.num_parameters == 37
    assert checkpoint.nbytes == 48 + 28 + 12
    with pytest.raises(MissingTensor, match="other"):
        checkpoint.load("other")


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool,
    ],
    ids=str,
)  # fmt: skip
def test_every_element_type(tmp_path, dtype):
    tensor = torch.tensor([0.0, 1.0, 1.0, 0.0]).to(dtype)
    weights = open_checkpoint(folder(tmp_path / "m", {"model.safetensors": {"w": tensor}})).load("w")
    assert weights.parts[0].dtype == dtype
    assert weights.dequantize(torch.float32).tolist() == [0, 1, 1, 0]


def test_shards(tmp_path):
    path = shards(tmp_path / "m")
    for given in (path, path / "model-00002-of-00002.safetensors"):
        checkpoint = open_checkpoint(given)
        assert checkpoint.names() == ["a", "b", "c"]
        assert torch.equal(checkpoint.load("b").parts[0], WEIGHTS + 6)
        assert [name for name, _ in checkpoint.tensors()] == ["a", "b", "c"]


def test_a_file_of_another_name(tmp_path):
    path = folder(tmp_path / "m", {"weights.safetensors": {"w": WEIGHTS}})
    assert open_checkpoint(path).names() == ["w"]
    assert open_checkpoint(path / "weights.safetensors").names() == ["w"]
    folder(path, {"more.safetensors": {"v": WEIGHTS}})
    with pytest.raises(UnknownFormat, match=r"2 \.safetensors files"):
        open_checkpoint(path)
    assert open_checkpoint(path / "more.safetensors").names() == ["v"]


def test_data_at_odd_bytes(tmp_path):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for padding in range(4):
        header = json.dumps({"w": entry}).encode() + b" " * padding
        data = torch.tensor([1.5, -2.0]).numpy().tobytes()
        assert opened(tmp_path / "m", raw(header, data)).load("w").parts[0].tolist() == [1.5, -2.0]


def test_tensors_outlive_the_checkpoint_and_never_write_to_the_file(tmp_path):
    path = folder(tmp_path / "m", {"model.safetensors": {"w": WEIGHTS}})
    with open_checkpoint(path) as checkpoint:
        weights = checkpoint.load("w").parts[0]
    weights += 1
    assert torch.equal(weights, WEIGHTS + 1)
    assert torch.equal(open_checkpoint(path).load("w").parts[0], WEIGHTS)
    with pytest.raises(CheckpointError, match="closed"):
        checkpoint.load("w")


def test_config_and_generation(tmp_path):
    config = {"model_type": "qwen3", "hidden_size": 8}
    generation = {"temperature": 0.6}
    path = folder(
        tmp_path / "m", {"model.safetensors": {"w": WEIGHTS}}, config=config, generation_config=generation
    )
    checkpoint = open_checkpoint(path)
    assert (checkpoint.config, checkpoint.generation) == (config, generation)
    assert checkpoint.architecture == "qwen3"
    assert open_checkpoint(folder(tmp_path / "n", {"model.safetensors": {"w": WEIGHTS}})).generation == {}


def test_chat_templates(tmp_path):
    path = folder(tmp_path / "m", {"model.safetensors": {"w": WEIGHTS}})

    def template() -> str | None:
        return open_checkpoint(path).chat_template

    assert template() is None
    named = [{"name": "rag", "template": "R"}, {"name": "tool_use", "template": "T"}]
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert template() == "T"
    named.append({"name": "default", "template": "D"})
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert template() == "D"
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "plain"}))
    assert template() == "plain"
    (path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert template() == "json"
    (path / "chat_template.jinja").write_text("jinja ä", encoding="utf-8")
    assert template() == "jinja ä"


# ── what is wrong ─────────────────────────────────────────────────────────────

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
CORRUPT = {
    "empty": (b"", "0 bytes"),
    "short": (b"\1\2\3", "3 bytes"),
    "header too long": (raw({}, length=1 << 62), "not a safetensors file"),
    "header cut": (raw({}, length=500), "truncated"),
    "header no JSON": (raw(b"{nonsense}"), "broken"),
    "header no text": (raw(b"\xff\xfe{}"), "broken"),
    "header too deep": (raw(b"[" * 50_000), "broken"),
    "header a list": (raw([1, 2]), "not a JSON object"),
    "tensor twice": (raw(b'{"w": {}, "w": {}}'), "twice"),
    "no description": (raw({"w": 3}), "'w'"),
    "no offsets": (raw({"w": {"dtype": "F32", "shape": [2]}}), "'w'"),
    "negative shape": (raw({"w": F32 | {"shape": [-2]}}, bytes(8)), "'w'"),
    "fractional shape": (raw({"w": F32 | {"shape": [2.0]}}, bytes(8)), "'w'"),
    "three offsets": (raw({"w": F32 | {"data_offsets": [0, 4, 8]}}, bytes(8)), "'w'"),
    "backwards": (raw({"w": F32 | {"data_offsets": [8, 0]}}, bytes(8)), "needs 8 bytes"),
    "wrong size": (raw({"w": F32 | {"data_offsets": [0, 4]}}, bytes(8)), "needs 8 bytes"),
    "huge shape": (raw({"w": F32 | {"shape": [1 << 62, 1 << 62]}}, bytes(8)), "needs"),
    "data cut": (raw({"w": F32}, bytes(5)), "3 bytes of the tensor 'w' are missing"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt(tmp_path, case):
    content, message = CORRUPT[case]
    with pytest.raises(CorruptFile, match=message) as raised:
        opened(tmp_path / "m", content)
    assert "model.safetensors" in str(raised.value)


def test_an_unknown_element_type(tmp_path):
    with pytest.raises(UnknownFormat, match=r"'w'.*F4"):
        opened(tmp_path / "m", raw({"w": F32 | {"dtype": "F4"}}, bytes(8)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not valid JSON"), (b"[]", "not a JSON object"), (b"\xff", "UTF-8"), (b"{}", "model_type")],
)
def test_broken_config(tmp_path, content, message):
    path = folder(tmp_path / "m", {"model.safetensors": {"w": WEIGHTS}})
    (path / "config.json").write_bytes(content)
    with pytest.raises(CorruptFile, match=message) as raised:
        _ = open_checkpoint(path).architecture
    assert "config.json" in str(raised.value)


def test_no_config(tmp_path):
    path = folder(tmp_path / "m", {"model.safetensors": {"w": WEIGHTS}})
    (path / "config.json").unlink()
    for given in (path, path / "model.safetensors"):
        with pytest.raises(ModelNotFound, match=r"config\.json"):
            open_checkpoint(given)


def test_a_missing_shard_is_named(tmp_path):
    path = shards(tmp_path / "m")
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="model-00002-of-00002"):
        open_checkpoint(path)


def test_shards_without_an_index(tmp_path):
    path = shards(tmp_path / "m")
    (path / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelNotFound, match=r"index\.json"):
        open_checkpoint(path)


def test_an_index_that_is_wrong_about_a_tensor(tmp_path):
    path = shards(tmp_path / "m")
    index(path, {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"})
    with pytest.raises(CorruptFile, match="'a'"):
        open_checkpoint(path)


@pytest.mark.parametrize("weight_map", [None, [], {"a": 3}, {"a": "../x.safetensors"}, {"a": "/etc/passwd"}])
def test_an_index_that_names_no_files(tmp_path, weight_map):
    path = shards(tmp_path / "m")
    index(path, weight_map)
    with pytest.raises(CorruptFile, match="weight_map"):
        open_checkpoint(path)


def test_a_tensor_in_two_files(tmp_path):
    path = shards(tmp_path / "m")
    save_file({name: WEIGHTS.clone() for name in "abc"}, path / "model-00002-of-00002.safetensors")
    with pytest.raises(CorruptFile, match="'a' is in model-00001-of-00002"):
        open_checkpoint(path)


def use(path: Path) -> str | None:
    """Read every tensor; return our error's message, or None if all went well."""
    try:
        for _, weights in open_checkpoint(path).tensors():
            weights.dequantize(torch.float32)
    except MullError as error:
        return error.message
    return None


@pytest.mark.parametrize("seed", range(3))
def test_mutations(tmp_path, seed):
    rng = random.Random(seed)
    path = folder(tmp_path / "m", {"model.safetensors": {"a": WEIGHTS, "b": WEIGHTS.half()}})
    sound = (path / "model.safetensors").read_bytes()
    outcomes: set[str | None] = set()
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (path / "model.safetensors").write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        outcomes.add(use(path))
    assert None in outcomes
    assert len(outcomes) > 5
    assert not any("\n" in message for message in outcomes - {None})
