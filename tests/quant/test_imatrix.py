"""Importance matrices: files written and read, merged, and matched with a model's tensors."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from mull.errors import (
    CheckpointError,
    CorruptFile,
    DiskFull,
    ModelNotFound,
    MullError,
    ShapeMismatch,
    UnknownFormat,
)
from mull.quant.imatrix import Entry, ImportanceMatrix, merge
from mull.quant.imatrix_statistics import statistics

KEYS = {"imatrix.datasets": ["a"], "imatrix.chunk_count": 1, "imatrix.chunk_size": 8}
DENSE, SPARSE = "blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"


def entry(sums: object, counts: list[int]) -> Entry:
    values = np.array(sums, dtype=np.float32)
    return Entry(values.reshape(len(counts), -1), np.array(counts, dtype=np.int64))


@pytest.fixture
def matrix() -> ImportanceMatrix:
    """Return one dense matrix of 3 columns, and one of 2 experts of 2 columns, the second never reached."""
    entries = {SPARSE: entry([[4, 8], [0, 0]], [4, 0]), DENSE: entry([16, 32, 0], [16])}
    return ImportanceMatrix(entries, ("a.txt", "b ü.txt"), chunk_count=2, chunk_size=8)


def same(a: ImportanceMatrix, b: ImportanceMatrix) -> bool:
    return (
        set(a.entries) == set(b.entries)
        and all(np.array_equal(a.entries[n].sums, b.entries[n].sums) for n in a.entries)
        and all(np.array_equal(a.entries[n].counts, b.entries[n].counts) for n in a.entries)
        and (a.datasets, a.chunk_count, a.chunk_size) == (b.datasets, b.chunk_count, b.chunk_size)
    )


def test_a_file_is_read_as_it_was_written(matrix: ImportanceMatrix, tmp_path: Path) -> None:
    matrix.write(tmp_path / "m.gguf")
    assert same(ImportanceMatrix.read(tmp_path / "m.gguf"), matrix)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_the_file_is_laid_out_as_llama_imatrix_does(matrix: ImportanceMatrix, tmp_path: Path) -> None:
    import gguf

    matrix.write(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    keys = [key for key in reader.fields if not key.startswith("GGUF.")]
    assert keys == ["general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"]
    found = [(t.name, t.shape.tolist()) for t in reader.tensors]
    assert found == [
        (f"{DENSE}.in_sum2", [3]),
        (f"{DENSE}.counts", [1]),
        (f"{SPARSE}.in_sum2", [2, 2]),
        (f"{SPARSE}.counts", [1, 2]),
    ]


def test_importance_is_the_mean_and_one_where_no_token_came(matrix: ImportanceMatrix) -> None:
    dense, sparse = matrix.importance(DENSE), matrix.importance(SPARSE)
    assert dense is not None
    assert sparse is not None
    assert dense.dtype == sparse.dtype == np.float32
    assert dense.tolist() == [[1, 2, 0]]
    assert sparse.tolist() == [[1, 2], [1, 1]]
    assert matrix.importance("blk.0.attn_k.weight") is None


def test_a_tensors_shape_decides(matrix: ImportanceMatrix) -> None:
    found = matrix.for_tensor(SPARSE, (2, 5, 2))
    assert found is not None
    assert found.shape == (2, 2)
    assert matrix.for_tensor("output.weight", (9, 9)) is None
    with pytest.raises(
        ShapeMismatch, match=r"3 columns for 'blk\.0\.attn_q\.weight', and the model 4"
    ) as caught:
        matrix.for_tensor(DENSE, (7, 4))
    assert "another model" in str(caught.value.hint)
    embedding = ImportanceMatrix({"token_embd.weight": entry([1, 2], [1])})
    assert embedding.for_tensor("token_embd.weight", (5, 3)) is None


def test_a_matrix_of_another_model_is_told(matrix: ImportanceMatrix) -> None:
    matrix.check({DENSE: (6, 3), SPARSE: (2, 6, 2), "blk.1.attn_q.weight": (6, 3)})
    with pytest.raises(ShapeMismatch, match=r"4 columns for 'blk\.0\.ffn_up_exps\.weight', and the model 8"):
        matrix.check({DENSE: (6, 3), SPARSE: (4, 6, 2)})
    with pytest.raises(ShapeMismatch, match="names no tensor of the model"):
        matrix.check({"model.layers.0.self_attn.q_proj.weight": (6, 3)})


def test_matrices_add_up(matrix: ImportanceMatrix) -> None:
    more = ImportanceMatrix({DENSE: entry([1, 1, 1], [24]), "blk.1.x.weight": entry([7], [1])}, ("c",))
    total = merge([matrix, more], 8)
    assert total.entries[DENSE].sums.tolist() == [[17, 33, 1]]
    assert total.entries[DENSE].counts.tolist() == [40]
    assert set(total.entries) == {DENSE, SPARSE, "blk.1.x.weight"}
    assert total.datasets == ("a.txt", "b ü.txt", "c")
    assert (total.chunk_count, total.chunk_size) == (5, 8)


def test_one_count_stands_for_all_experts(matrix: ImportanceMatrix) -> None:
    old = ImportanceMatrix({SPARSE: entry([1, 2, 3, 4], [10])})
    for total in (merge([matrix, old]), merge([old, matrix])):
        assert total.entries[SPARSE].sums.tolist() == [[5, 10], [3, 4]]
        assert total.entries[SPARSE].counts.tolist() == [14, 10]


def test_matrices_of_different_models_do_not_add_up(matrix: ImportanceMatrix) -> None:
    with pytest.raises(ShapeMismatch, match="3 columns in one importance matrix and 2 in another"):
        merge([matrix, ImportanceMatrix({DENSE: entry([1, 1], [1])})])
    with pytest.raises(ShapeMismatch):
        merge([matrix, ImportanceMatrix({SPARSE: entry([[1], [1], [1], [1]], [1, 1, 1, 1])})])


def dat(*entries: tuple[bytes, int, list[float]], chunks: int = 0, dataset: bytes = b"") -> bytes:
    out = struct.pack("<i", len(entries))
    for name, count, values in entries:
        out += struct.pack("<i", len(name)) + name + struct.pack("<ii", count, len(values))
        out += struct.pack(f"<{len(values)}f", *values)
    return out + struct.pack("<ii", chunks, len(dataset)) + dataset


def test_the_older_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(
        dat((DENSE.encode(), 3, [3, 6, 9]), (b"output.weight", 0, [5]), chunks=3, dataset=b"wiki")
    )
    found = ImportanceMatrix.read(path, 16)
    importance, other = found.importance(DENSE), found.importance("output.weight")
    assert importance is not None
    assert other is not None
    assert importance.tolist() == [[1, 2, 3]]
    assert other.tolist() == [[5]]
    assert found.entries[DENSE].sums.tolist() == [[48, 96, 144]]
    assert found.entries[DENSE].counts.tolist() == [48]
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("wiki",), 3, 16)
    path.write_bytes(path.read_bytes()[:-12])  # what is after the entries may be missing
    assert ImportanceMatrix.read(path).datasets == ()


@pytest.mark.parametrize(
    ("tensors", "keys", "error", "says"),
    [
        ({"a.in_sum2": np.ones(4, np.float32)}, KEYS, CorruptFile, "no counts"),
        ({}, KEYS, UnknownFormat, "holds no sums"),
        ({"token_embd.weight": np.ones((2, 4), np.float32)}, {}, UnknownFormat, "no importance matrix"),
        (
            {"a.in_sum2": np.ones(4, np.float32), "a.counts": np.ones(3, np.float32)},
            KEYS,
            CorruptFile,
            "4 sums and 3 counts",
        ),
        (
            {"a.in_sum2": np.ones(4, np.float16), "a.counts": np.ones(1, np.float32)},
            KEYS,
            CorruptFile,
            "not float32",
        ),
        (
            {"a.in_sum2": np.full(4, np.nan, np.float32), "a.counts": np.ones(1, np.float32)},
            KEYS,
            CorruptFile,
            "not finite",
        ),
        (
            {"a.in_sum2": np.ones(4, np.float32), "a.counts": np.full(1, -2, np.float32)},
            KEYS,
            CorruptFile,
            "no numbers of tokens",
        ),
    ],
)
def test_files_that_are_no_importance_matrix(
    tensors: dict[str, np.ndarray], keys: dict[str, object], error: type[MullError], says: str, tmp_path: Path
) -> None:
    path = gguf_files.write_gguf(tmp_path / "m.gguf", keys, tensors)
    with pytest.raises(error, match=says):
        ImportanceMatrix.read(path)


def test_broken_files_raise_our_errors(matrix: ImportanceMatrix, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix.write(tmp_path / "whole")
    path = tmp_path / "broken"
    for whole in ((tmp_path / "whole").read_bytes(), dat((DENSE.encode(), 3, [3, 6, 9]), chunks=3)):
        for at in range(0, len(whole), 5):
            damaged = bytearray(whole)
            damaged[at] ^= int(rng.integers(1, 256))
            for data in (whole[:at], bytes(damaged)):
                path.write_bytes(data)
                with suppress(CheckpointError):  # and nothing else; some damage goes unnoticed
                    ImportanceMatrix.read(path)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        ImportanceMatrix.read(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        ImportanceMatrix.read(tmp_path)


def test_a_failed_write_leaves_the_old_file(
    matrix: ImportanceMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    path = tmp_path / "m.gguf"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="no space left"):
        matrix.write(path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["m.gguf"]
    with pytest.raises(CheckpointError, match="cannot be written"):
        matrix.write(tmp_path / "absent" / "m.gguf")


def test_statistics_are_llama_imatrix_figures(matrix: ImportanceMatrix) -> None:
    rows = {row.name: row for row in statistics(matrix)}
    dense, sparse = rows[DENSE], rows[SPARSE]
    assert (dense.tokens, dense.columns, dense.total, dense.smallest, dense.largest) == (16, 3, 3, 0, 2)
    assert dense.unused == pytest.approx(1 / 3)
    assert dense.entropy == pytest.approx(np.log2(3) - 2 / 3)
    assert dense.spread == pytest.approx(dense.entropy / np.log2(3))
    assert dense.outliers == pytest.approx(1 / 3)
    assert dense.reached == 1
    # An expert that no token reached says nothing.
    assert (sparse.columns, sparse.total, sparse.reached, sparse.similarity) == (2, 3, 0.5, 0)


def test_statistics_compare_neighbouring_layers() -> None:
    entries = {f"blk.{i}.attn_q.weight": entry(sums, [1]) for i, sums in enumerate(([1, 0], [1, 1], [0, 0]))}
    rows = {row.name: row.similarity for row in statistics(ImportanceMatrix(entries))}
    assert rows["blk.0.attn_q.weight"] == 0
    assert rows["blk.1.attn_q.weight"] == pytest.approx(0.5**0.5)
    assert rows["blk.2.attn_q.weight"] == 0
