"""Reading GGUF files: what is in them, what is wrong with them, and models split into parts."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_files import (
    Typed,
    random_blocks,
    raw_array,
    raw_gguf,
    raw_pair,
    raw_string,
    raw_tensor,
    write_gguf,
)
from mull.errors import CheckpointError, CorruptFile, MissingTensor, ModelNotFound, UnknownFormat
from mull.models.checkpoint import mapping
from mull.models.checkpoint.gguf import GGUFCheckpoint, gguf_parts
from mull.models.checkpoint.open import open_checkpoint

Kind = gguf.GGUFValueType
ARCHITECTURE = raw_pair("general.architecture", Kind.STRING, raw_string("llama"))
WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def opened(tmp_path: Path, content: bytes) -> GGUFCheckpoint:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return GGUFCheckpoint(path)


# ── what is read ──────────────────────────────────────────────────────────────


def test_every_kind_of_value(tmp_path):
    metadata = {
        "u8": Typed(200, Kind.UINT8),
        "i8": Typed(-3, Kind.INT8),
        "u16": Typed(60000, Kind.UINT16),
        "i16": Typed(-300, Kind.INT16),
        "u32": Typed(4_000_000_000, Kind.UINT32),
        "i32": Typed(-70000, Kind.INT32),
        "u64": Typed(1 << 63, Kind.UINT64),
        "i64": Typed(-(1 << 40), Kind.INT64),
        "f32": Typed(0.5, Kind.FLOAT32),
        "f64": Typed(0.1, Kind.FLOAT64),
        "yes": True,
        "text": "Grüße, 世界 🙂",
        "strings": ["a", "", "ß"],
        "ints": [1, -2, 3],
        "floats": [0.5, -1.5],
        "bools": [True, False],
    }
    with open_checkpoint(write_gguf(tmp_path / "m.gguf", metadata)) as checkpoint:
        for key, value in metadata.items():
            found = checkpoint.metadata[key]
            wanted = value.value if isinstance(value, Typed) else value
            assert found == wanted
            assert type(found) is type(wanted)
        assert set(metadata) < set(checkpoint.metadata)
        assert len(checkpoint.metadata) == len(list(checkpoint.metadata))


def test_nested_arrays(tmp_path):
    inner = raw_array(Kind.UINT8, 2, b"\1\2") + raw_array(Kind.STRING, 1, raw_string("x"))
    content = raw_gguf([ARCHITECTURE, raw_pair("nested", Kind.ARRAY, raw_array(Kind.ARRAY, 2, inner))])
    assert opened(tmp_path, content).metadata["nested"] == [[1, 2], ["x"]]


def test_arrays_are_unpacked_when_first_looked_up(tmp_path):
    metadata = {"tokenizer.ggml.tokens": ["a", "b", "c"], "name": "n"}
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", metadata))
    first = checkpoint.metadata["tokenizer.ggml.tokens"]
    assert first is checkpoint.metadata["tokenizer.ggml.tokens"]
    assert "absent" not in checkpoint.metadata


def test_invalid_utf8_in_a_value_is_replaced(tmp_path):
    pairs = [ARCHITECTURE, raw_pair("text", Kind.STRING, raw_string(b"a\xffb"))]
    pairs.append(raw_pair("list", Kind.ARRAY, raw_array(Kind.STRING, 1, raw_string(b"\xe2\x82"))))
    checkpoint = opened(tmp_path, raw_gguf(pairs))
    assert checkpoint.metadata["text"] == "a\ufffdb"
    assert checkpoint.metadata["list"] == ["\ufffd"]


def test_tensors(tmp_path):
    tensors = {
        "plain": WEIGHTS,
        "half": WEIGHTS.astype(np.float16),
        "brain": (WEIGHTS, "bf16"),
        "vector": np.arange(5, dtype=np.float32),
        "experts": (np.ones((2, 3, 64), dtype=np.float32), "q8_0"),
        "packed": (random_blocks("q4_k", 4).reshape(2, -1), "q4_k"),
    }
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", {}, tensors))
    assert checkpoint.names() == list(tensors)
    assert checkpoint.has("plain")
    assert not checkpoint.has("other")
    assert checkpoint.info("experts").shape == (2, 3, 64)
    assert checkpoint.info("experts").nbytes == 2 * 3 * 2 * 34
    assert checkpoint.info("packed").dtype == "q4_k"
    assert torch.equal(checkpoint.load("plain").dequantize(torch.float32), torch.from_numpy(WEIGHTS))
    assert checkpoint.load("brain").parts[0].dtype == torch.bfloat16
    experts = checkpoint.load("experts").dequantize(torch.float32)
    assert torch.allclose(experts, torch.ones(2, 3, 64), atol=1e-3)
    assert [name for name, _ in checkpoint.tensors()] == list(tensors)
    counts = checkpoint.dtype_counts()
    assert counts == {"q4_k": 1024, "q8_0": 384, "f32": 11, "f16": 6, "bf16": 6}
    assert next(iter(counts)) == "q4_k"
    assert checkpoint.num_parameters == 1431
    assert checkpoint.nbytes == 576 + 408 + 44 + 12 + 12
    with pytest.raises(MissingTensor, match="other"):
        checkpoint.load("other")
    with pytest.raises(MissingTensor, match="other"):
        checkpoint.info("other")


def test_version_2_reads_as_version_3(tmp_path):
    content = write_gguf(tmp_path / "m.gguf", {"n": 1}, {"w": WEIGHTS}).read_bytes()
    checkpoint = opened(tmp_path, content[:4] + struct.pack("<I", 2) + content[8:])
    assert torch.equal(checkpoint.load("w").parts[0], torch.from_numpy(WEIGHTS))


def test_any_power_of_two_aligns(tmp_path):
    for alignment in (8, 64, 4096):
        path = write_gguf(
            tmp_path / f"{alignment}.gguf", {}, {"a": WEIGHTS, "b": WEIGHTS + 6}, alignment=alignment
        )
        assert open_checkpoint(path).load("b").parts[0].flatten().tolist() == [6, 7, 8, 9, 10, 11]


def test_a_file_without_tensors(tmp_path):
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", {"a": 1}))
    assert checkpoint.names() == []
    assert checkpoint.num_parameters == 0


def test_what_the_metadata_means(tmp_path):
    metadata = {
        "general.sampling.temp": 0.6,
        "general.sampling.top_k": 20,
        "tokenizer.chat_template": "{{ messages }}",
    }
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", metadata, architecture="qwen3"))
    assert checkpoint.format == "gguf"
    assert checkpoint.architecture == "qwen3"
    assert checkpoint.generation == {"temp": pytest.approx(0.6), "top_k": 20}
    assert checkpoint.chat_template == "{{ messages }}"
    assert checkpoint.config["model_type"] == "qwen3"
    assert open_checkpoint(write_gguf(tmp_path / "n.gguf")).chat_template is None


def test_no_architecture(tmp_path):
    with pytest.raises(CorruptFile, match=r"general\.architecture"):
        _ = opened(tmp_path, raw_gguf()).architecture


def test_real_vocabularies(shared_data):
    path = shared_data / "tokenizers" / "ggml-vocab-qwen2.gguf"
    metadata = open_checkpoint(path).metadata
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == 151936
    assert tokens[:3] == ["!", '"', "#"]
    assert metadata["tokenizer.ggml.pre"] == "qwen2"


# ── memory ────────────────────────────────────────────────────────────────────


def test_tensors_outlive_the_checkpoint_and_never_write_to_the_file(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", {"list": ["a"]}, {"w": WEIGHTS})
    before = path.read_bytes()
    checkpoint = open_checkpoint(path)
    weights = checkpoint.load("w").parts[0]
    checkpoint.close()
    checkpoint.close()
    weights += 1
    assert torch.equal(weights, torch.from_numpy(WEIGHTS + 1))
    assert path.read_bytes() == before
    assert checkpoint.metadata["list"] == ["a"]
    with pytest.raises(CheckpointError, match="closed"):
        checkpoint.load("w")


def test_where_private_mappings_are_refused_a_shared_one_serves(tmp_path, monkeypatch):
    real = mapping.mmap.mmap

    def refusing(descriptor, length, access):
        if access == mapping.mmap.ACCESS_COPY:
            raise OSError("Cannot allocate memory")
        return real(descriptor, length, access=access)

    monkeypatch.setattr(mapping.mmap, "mmap", refusing)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", {}, {"w": WEIGHTS}))
    assert torch.equal(checkpoint.load("w").parts[0], torch.from_numpy(WEIGHTS))


# ── what is wrong ─────────────────────────────────────────────────────────────

HUGE = (1 << 64) - 1
CORRUPT = {
    "nothing after the magic": (b"GGUF", "version"),
    "counts": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, HUGE), "metadata pairs"),
    "many tensors": (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0), "tensors"),
    "key length": (raw_gguf([struct.pack("<Q", HUGE)]) + bytes(64), "claims"),
    "key is not text": (raw_gguf([raw_pair(b"\xff", Kind.UINT8, b"\0")]), "UTF-8"),
    "string length": (raw_gguf([raw_pair("a", Kind.STRING, struct.pack("<Q", 1 << 20))]), "needs"),
    "string length, absurd": (raw_gguf([raw_pair("a", Kind.STRING, struct.pack("<Q", HUGE))]), "claims"),
    "unknown value type": (raw_gguf([raw_pair("a", 13, bytes(8))]), "unknown type 13"),
    "unknown array type": (raw_gguf([raw_pair("a", 9, raw_array(99, 1, bytes(8)))]), "unknown type 99"),
    "array length": (raw_gguf([raw_pair("a", 9, raw_array(Kind.UINT32, 1 << 20, b""))]), "needs"),
    "array length, absurd": (raw_gguf([raw_pair("a", 9, raw_array(Kind.UINT32, HUGE, b""))]), "claims"),
    "string array length": (raw_gguf([raw_pair("a", 9, raw_array(Kind.STRING, 1 << 20, b""))]), "needs"),
    "string in an array": (
        raw_gguf([raw_pair("a", 9, raw_array(Kind.STRING, 1, struct.pack("<Q", HUGE)))]),
        "past the end",
    ),
    "string before the last": (
        raw_gguf([raw_pair("a", 9, raw_array(Kind.STRING, 2, struct.pack("<QQ", 1 << 30, 0)))]),
        "past the end",
    ),
    "nesting": (raw_gguf([raw_pair("a", 9, raw_array(9, 1, b"") * 40 + bytes(64))]), "deep"),
    "duplicate key": (raw_gguf([ARCHITECTURE, ARCHITECTURE]), "twice"),
    "duplicate tensor": (raw_gguf([], [raw_tensor("w", [1])] * 2, bytes(32)), "twice"),
    "dimensions": (raw_gguf([], [raw_tensor("w", [1] * 5)], bytes(32)), "5 dimensions"),
    "zero dimension": (raw_gguf([], [raw_tensor("w", [4, 0])], bytes(32)), "impossible shape"),
    "overflow": (raw_gguf([], [raw_tensor("w", [1 << 40, 1 << 40])], bytes(32)), "impossible shape"),
    "half a block": (raw_gguf([], [raw_tensor("w", [48], 8)], bytes(64)), "no multiple of 32"),
    "unaligned offset": (raw_gguf([], [raw_tensor("w", [1], 0, 4)], bytes(64)), "not aligned to 32"),
    "offset": (raw_gguf([], [raw_tensor("w", [1], 0, 1 << 40)], bytes(64)), "bytes are missing"),
    "tensor name": (raw_gguf([], [raw_tensor(b"\xff", [1])], bytes(32)), "UTF-8"),
    "alignment 0": (raw_gguf([raw_pair("general.alignment", 4, bytes(4))]), "power of two"),
    "alignment 48": (raw_gguf([raw_pair("general.alignment", 4, b"\x30\0\0\0")]), "power of two"),
    "alignment text": (raw_gguf([raw_pair("general.alignment", 8, raw_string("32"))]), "power of two"),
    "split text": (raw_gguf([raw_pair("split.count", 8, raw_string("2"))]), "split"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt(tmp_path, case):
    content, message = CORRUPT[case]
    with pytest.raises(CorruptFile, match=message) as raised:
        opened(tmp_path, content)
    assert str(tmp_path / "model.gguf") in str(raised.value)


def test_a_truncated_file_says_how_much_is_missing(tmp_path):
    content = write_gguf(tmp_path / "m.gguf", {}, {"w": np.zeros(1000, dtype=np.float32)}).read_bytes()
    with pytest.raises(CorruptFile, match=r"truncated: 100 of \d+ bytes are missing"):
        opened(tmp_path, content[:-100])


def test_an_unknown_tensor_type_names_the_tensor_and_the_type(tmp_path):
    with pytest.raises(UnknownFormat, match=r"'blk\.0\.w'.*type 4242"):
        opened(tmp_path, raw_gguf([], [raw_tensor("blk.0.w", [32], 4242)], bytes(64)))


@pytest.mark.parametrize(
    ("version", "message"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian"), (0, "version 0")]
)
def test_other_versions_are_refused(tmp_path, version, message):
    with pytest.raises(UnknownFormat, match=message):
        opened(tmp_path, raw_gguf([ARCHITECTURE], version=version))


def test_a_config_that_cannot_be_translated_names_the_file(tmp_path):
    counts = raw_array(Kind.UINT32, 2, struct.pack("<II", 4, 8))
    content = raw_gguf([ARCHITECTURE, raw_pair("llama.attention.head_count", Kind.ARRAY, counts)])
    with pytest.raises(CorruptFile, match=r"model\.gguf.*head_count"):
        _ = opened(tmp_path, content).config


def test_a_template_that_is_no_text(tmp_path):
    with pytest.raises(CorruptFile, match="chat_template"):
        _ = opened(tmp_path, raw_gguf([raw_pair("tokenizer.chat_template", 0, b"\1")])).chat_template


# ── models in several files ───────────────────────────────────────────────────


def write_split(folder: Path, count: int = 3, **changes: object) -> list[Path]:
    paths = []
    for number in range(count):
        metadata = {
            "split.no": Typed(number, Kind.UINT16),
            "split.count": Typed(count, Kind.UINT16),
            "split.tensors.count": Typed(count, Kind.INT32),
        } | {key.replace("_", "."): Typed(value, Kind.UINT16) for key, value in changes.items()}
        if number == 0:
            metadata["first"] = "yes"
        path = folder / f"model-{number + 1:05d}-of-{count:05d}.gguf"
        paths.append(write_gguf(path, metadata, {f"w{number}": WEIGHTS + number}))
    return paths


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_opens_the_whole_model(tmp_path, given):
    paths = write_split(tmp_path)
    checkpoint = open_checkpoint(paths[given])
    assert checkpoint.names() == ["w0", "w1", "w2"]
    assert checkpoint.metadata["first"] == "yes"
    assert torch.equal(checkpoint.load("w2").parts[0], torch.from_numpy(WEIGHTS + 2))
    assert gguf_parts(paths[given]) == paths


def test_a_folder_of_parts(tmp_path):
    write_split(tmp_path)
    assert open_checkpoint(tmp_path).names() == ["w0", "w1", "w2"]


def test_parts_given_one_by_one_may_have_any_names(tmp_path):
    blobs = [path.rename(tmp_path / f"blob{i}") for i, path in enumerate(write_split(tmp_path))]
    assert GGUFCheckpoint(blobs[0], blobs).names() == ["w0", "w1", "w2"]


def test_a_missing_part_is_named(tmp_path):
    paths = write_split(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelNotFound, match="model-00002-of-00003"):
        open_checkpoint(paths[0])


def test_a_renamed_part_does_not_open_alone(tmp_path):
    alone = write_split(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(CorruptFile, match="split into 3 files"):
        open_checkpoint(alone)


def test_parts_in_the_wrong_order(tmp_path):
    paths = write_split(tmp_path)
    with pytest.raises(CorruptFile, match="part 1"):
        GGUFCheckpoint(paths[1], [paths[1], paths[0], paths[2]])


def test_parts_that_hold_the_same_tensor(tmp_path):
    paths = write_split(tmp_path, 2)
    metadata = {"split.no": Typed(1, Kind.UINT16), "split.count": Typed(2, Kind.UINT16)}
    write_gguf(paths[1], metadata, {"w0": WEIGHTS})
    with pytest.raises(CorruptFile, match="'w0'"):
        open_checkpoint(paths[0])


def test_parts_that_lack_tensors(tmp_path):
    paths = write_split(tmp_path, 2, split_tensors_count=9)
    with pytest.raises(CorruptFile, match="2 tensors, but should hold 9"):
        open_checkpoint(paths[0])


def test_a_split_of_no_parts(tmp_path):
    path = write_gguf(tmp_path / "model-00001-of-00000.gguf")
    with pytest.raises(CorruptFile, match="0 parts"):
        open_checkpoint(path)
