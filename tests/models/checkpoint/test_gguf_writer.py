"""GGUF files as we write them: read back by us and by the gguf package, whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_files import write_gguf as peer_write
from mull.errors import CheckpointError, DiskFull, InvalidRequest
from mull.models.checkpoint import new_files
from mull.models.checkpoint.gguf import GGUFCheckpoint
from mull.models.checkpoint.gguf_values import Typed, ValueType
from mull.models.checkpoint.gguf_writer import NewTensor, part_paths, write_gguf
from mull.quant.dtype import DTYPES

KINDS = {
    "u8": Typed(255, ValueType.UINT8),
    "i8": Typed(-128, ValueType.INT8),
    "u16": Typed(65535, ValueType.UINT16),
    "i16": Typed(-32768, ValueType.INT16),
    "u32": Typed(2**32 - 1, ValueType.UINT32),
    "i32": Typed(-(2**31), ValueType.INT32),
    "f32": Typed(0.5, ValueType.FLOAT32),
    "bool": Typed(True, ValueType.BOOL),
    "text": Typed("Grüße\n", ValueType.STRING),
    "u64": Typed(2**64 - 1, ValueType.UINT64),
    "i64": Typed(-(2**63), ValueType.INT64),
    "f64": Typed(0.1, ValueType.FLOAT64),
    "texts": Typed(["a", "", "ü"], ValueType.ARRAY, ValueType.STRING),
    "floats": Typed([0.5, -1.0], ValueType.ARRAY, ValueType.FLOAT32),
    "bools": Typed([True, False], ValueType.ARRAY, ValueType.BOOL),
    "none": Typed([], ValueType.ARRAY, ValueType.UINT32),
    "nested": Typed([[1, 2], [3]], ValueType.ARRAY, ValueType.ARRAY),
}


def tensor(
    name: str, data: np.ndarray, kind: str = "f32", pieces: int = 1, part: int | None = None
) -> NewTensor:
    raw = data.tobytes()
    step = -(-len(raw) // pieces)
    shape = data.shape

    def make():
        return (raw[i : i + step] for i in range(0, len(raw), step))

    return NewTensor(name, DTYPES[kind], shape, make, part)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


BASE = {"general.architecture": "llama"}


def test_every_type_of_metadata_comes_back(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, BASE | KINDS, [tensor("a.weight", floats(2, 32))])
    reader = gguf.GGUFReader(path)
    for key, typed in KINDS.items():
        field = reader.fields[key]
        assert int(field.types[0]) == typed.kind
        if typed.items is not None and typed.items is not ValueType.ARRAY and typed.value:
            assert int(field.types[1]) == typed.items
    with GGUFCheckpoint(path) as checkpoint:
        for key, typed in KINDS.items():
            assert checkpoint.metadata[key] == typed.value


def test_plain_values_get_the_usual_types(tmp_path):
    path = tmp_path / "m.gguf"
    plain = {
        "i": 7,
        "n": -7,
        "big": 2**40,
        "f": 0.5,
        "b": False,
        "s": "x",
        "l": [1, 2],
        "t": ["a"],
        "fs": [0.5],
    }
    write_gguf(path, BASE | plain, [])
    kinds = {key: [int(t) for t in gguf.GGUFReader(path).fields[key].types] for key in plain}
    expected = {
        "i": [4],
        "n": [5],
        "big": [10],
        "f": [6],
        "b": [7],
        "s": [8],
        "l": [9, 5],
        "t": [9, 8],
        "fs": [9, 6],
    }
    assert kinds == expected


@pytest.mark.parametrize(
    "value",
    [
        Typed(256, ValueType.UINT8),
        Typed("x", ValueType.UINT32),
        Typed(5, ValueType.STRING),
        Typed([1], ValueType.ARRAY),
    ],
)
def test_a_value_that_its_type_cannot_hold(tmp_path, value):
    with pytest.raises(InvalidRequest, match="the metadata value k cannot be"):
        write_gguf(tmp_path / "m.gguf", {"k": value}, [])
    assert not list(tmp_path.iterdir())


def test_a_copied_value_keeps_its_type_and_its_bytes(tmp_path):
    source = peer_write(tmp_path / "s.gguf", {"k.list": [1, 2, 3], "k.text": "ü", "k.list2": ["a", "bc"]})
    with GGUFCheckpoint(source) as checkpoint:
        pairs = {key: checkpoint.metadata.verbatim(key) for key in checkpoint.metadata}
    write_gguf(tmp_path / "t.gguf", pairs, [])
    assert (tmp_path / "t.gguf").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_the_same_bytes_as_the_gguf_package(tmp_path, alignment):
    arrays = {"a.weight": floats(3, 5), "b.weight": floats(4, 32, seed=1), "c": floats(7, seed=2)}
    peer = peer_write(tmp_path / "p.gguf", tensors=arrays, alignment=alignment)
    with GGUFCheckpoint(peer) as checkpoint:
        pairs = {key: checkpoint.metadata.verbatim(key) for key in checkpoint.metadata}
    write_gguf(tmp_path / "o.gguf", pairs, [tensor(n, a, pieces=3) for n, a in arrays.items()])
    assert (tmp_path / "o.gguf").read_bytes() == peer.read_bytes()


def test_torch_tensors_are_pieces_too(tmp_path):
    weights = torch.randn(4, 32).to(torch.bfloat16)
    new = NewTensor("w", DTYPES["bf16"], (4, 32), lambda: iter([weights[:3], weights[3:]]))
    write_gguf(tmp_path / "m.gguf", BASE, [new])
    with GGUFCheckpoint(tmp_path / "m.gguf") as checkpoint:
        assert torch.equal(checkpoint.load("w").dequantize(torch.bfloat16), weights)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"split_max_size": 1000}, [["t0", "t1"], ["t2", "t3"], ["t4"]]),
        ({"split_max_size": 1}, [["t0"], ["t1"], ["t2"], ["t3"], ["t4"]]),
        ({"split_max_tensors": 4}, [["t0", "t1", "t2", "t3"], ["t4"]]),
        ({"split_max_size": 10**6}, [["t0", "t1", "t2", "t3", "t4"]]),
    ],
)
def test_parts_of_a_split_model(tmp_path, limits, expected):
    arrays = {f"t{i}": floats(3, 32, seed=i) for i in range(5)}
    path = tmp_path / "m.gguf"
    written = write_gguf(path, BASE | {"k": "v"}, [tensor(n, a) for n, a in arrays.items()], **limits)
    assert written == part_paths(path, len(expected))
    for i, (part, names) in enumerate(zip(written, expected, strict=True)):
        reader = gguf.GGUFReader(part)
        assert [t.name for t in reader.tensors] == names
        if len(expected) > 1:
            assert reader.fields["split.no"].contents() == i
            assert reader.fields["split.count"].contents() == len(expected)
            assert reader.fields["split.tensors.count"].contents() == 5
        assert ("k" in reader.fields) == (i == 0)
    with GGUFCheckpoint(written[-1]) as checkpoint:
        for name, array in arrays.items():
            assert np.array_equal(checkpoint.load(name).dequantize().numpy(), array)


def test_names_of_parts():
    names = [path.name for path in part_paths(Path("x/m-00001-of-00009.gguf"), 2)]
    assert names == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    assert [path.name for path in part_paths(Path("m"), 2)] == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]


def test_parts_can_be_chosen_and_keep_their_alignment(tmp_path):
    tensors = [tensor("a", floats(4), part=1), tensor("b", floats(5), part=0), tensor("c", floats(6), part=1)]
    written = write_gguf(tmp_path / "m.gguf", BASE | {"general.alignment": 128}, tensors)
    assert [[t.name for t in gguf.GGUFReader(p).tensors] for p in written] == [["b"], ["a", "c"]]
    with GGUFCheckpoint(written[0]) as checkpoint:
        assert np.array_equal(checkpoint.load("c").dequantize().numpy(), floats(6))


def test_tensors_are_made_one_after_the_other_and_told(tmp_path):
    events: list[object] = []

    def make(name: str):
        events.append(name)
        yield b"\0" * 8
        yield b"\0" * 8

    tensors = [NewTensor(n, DTYPES["f32"], (4,), lambda n=n: make(n)) for n in ("a", "b")]
    write_gguf(tmp_path / "m.gguf", BASE, tensors, progress=lambda done, total: events.append((done, total)))
    assert events == ["a", (8, 32), (16, 32), "b", (24, 32), (32, 32)]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_stays_behind_when_it_is_interrupted(tmp_path, stop):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"older")

    def make():
        yield b"\0" * 8
        raise stop

    tensors = [tensor("a", floats(4)), NewTensor("b", DTYPES["f32"], (4,), make)]
    with pytest.raises(stop):
        write_gguf(path, BASE, tensors, split_max_tensors=1)
    with pytest.raises(stop):
        write_gguf(path, BASE, tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
    assert path.read_bytes() == b"older"


def test_too_little_room_is_told_before_starting(tmp_path, monkeypatch):
    monkeypatch.setattr(new_files, "free_bytes", lambda folder: 100)
    with pytest.raises(DiskFull, match="only 100 are free"):
        write_gguf(tmp_path / "m.gguf", BASE, [tensor("a", floats(64))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fills_up(tmp_path, monkeypatch, code, call):
    def full(*args: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(new_files.os, call, full)
    with pytest.raises(DiskFull, match="no space left"):
        write_gguf(tmp_path / "m.gguf", BASE, [tensor("a", floats(64))])
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_other_trouble_of_the_disk(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="no such folder"):
        write_gguf(tmp_path / "none" / "m.gguf", BASE, [])

    def broken(*args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(new_files.os, "write", broken)
    with pytest.raises(CheckpointError, match="cannot be written: input/output error"):
        write_gguf(tmp_path / "m.gguf", BASE, [])


def test_a_set_is_renamed_completely_or_removed(tmp_path, monkeypatch):
    real, calls = os.replace, []

    def failing(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "broken")
        real(source, target)

    monkeypatch.setattr(new_files.os, "replace", failing)
    with pytest.raises(CheckpointError, match="broken"):
        write_gguf(tmp_path / "m.gguf", BASE, [tensor(n, floats(4)) for n in "abc"], split_max_tensors=1)
    assert not list(tmp_path.iterdir())


def test_a_link_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    link = tmp_path / "m.gguf"
    link.symlink_to(tmp_path / "far" / "real.gguf")
    write_gguf(link, BASE, [tensor("a", floats(4))])
    assert link.is_symlink()
    with GGUFCheckpoint(tmp_path / "far" / "real.gguf") as checkpoint:
        assert checkpoint.names() == ["a"]


def test_wrong_tensors(tmp_path):
    with pytest.raises(InvalidRequest, match="twice"):
        write_gguf(tmp_path / "m.gguf", BASE, [tensor("a", floats(4)), tensor("a", floats(4))])
    with pytest.raises(InvalidRequest, match="cannot be u64 in a GGUF file"):
        write_gguf(tmp_path / "m.gguf", BASE, [tensor("a", np.zeros(4, np.uint64), "u64")])
    with pytest.raises(InvalidRequest, match=r"general\.alignment"):
        write_gguf(tmp_path / "m.gguf", BASE | {"general.alignment": 33}, [])
    with pytest.raises(InvalidRequest, match="room"):
        write_gguf(tmp_path / "m.gguf", BASE, [], split_max_size=0)


WRITE_UNTIL_KILLED = """
    import sys
    from pathlib import Path
    from mull.models.checkpoint.gguf_writer import NewTensor, write_gguf
    from mull.quant.dtype import DTYPES

    def make():
        for i in range(64):
            yield bytes([i]) * 4096
            if {stop} == i:
                print("here", flush=True)
                sys.stdin.read()

    tensors = [NewTensor(name, DTYPES["f32"], (64, 1024), make) for name in "ab"]
    write_gguf(Path(sys.argv[1]), {{"general.architecture": "llama"}}, tensors, split_max_tensors={parts})
"""


def start_writing(path: Path, stop: int, parts: int) -> subprocess.Popen[str]:
    code = textwrap.dedent(WRITE_UNTIL_KILLED).format(stop=stop, parts=parts)
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("stop", [0, 63])
def test_a_killed_process_leaves_no_partial_file(tmp_path, stop, parts):
    path = tmp_path / "m.gguf"
    with start_writing(path, stop, parts) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert len(list(tmp_path.iterdir())) == 1
        # A second writer leaves alone what the first one holds.
        write_gguf(tmp_path / "other.gguf", BASE, [])
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    assert not list(tmp_path.glob("m-*"))
    write_gguf(path, BASE, [tensor("a", floats(4))])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "other.gguf"]
