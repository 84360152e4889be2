"""The table of weight types agrees with the gguf package and computes sizes."""

from __future__ import annotations

import subprocess
import sys

import gguf
import pytest
from mull.errors import NotSupported, ShapeMismatch
from mull.quant.dtype import DTYPES, dtype, dtype_by_ggml_id


@pytest.mark.parametrize("kind", list(gguf.GGML_QUANT_SIZES), ids=lambda kind: kind.name)
def test_every_gguf_type_is_in_the_table(kind):
    found = dtype_by_ggml_id(int(kind))
    assert found is not None
    assert found.name == kind.name.lower()
    assert (found.block, found.nbytes) == gguf.GGML_QUANT_SIZES[kind]


def test_no_id_is_invented():
    known = {int(kind) for kind in gguf.GGML_QUANT_SIZES}
    assert {d.ggml_id for d in DTYPES.values()} - {None} == known
    assert dtype_by_ggml_id(4) is None


def test_bits_count_the_scales():
    assert dtype("q4_k").bits == 4.5
    assert dtype("f32").bits == 32
    assert dtype("q6_k").bits == 6.5625


def test_shape_bytes():
    assert dtype("q4_k").shape_bytes((3, 512)) == 3 * 2 * 144
    assert dtype("f16").shape_bytes((2, 3, 5)) == 60
    assert dtype("f32").shape_bytes(()) == 4
    assert dtype("q8_0").shape_bytes((0, 32)) == 0


def test_rows_must_be_whole_blocks():
    with pytest.raises(ShapeMismatch, match="q4_k"):
        dtype("q4_k").shape_bytes((256, 100))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(NotSupported, match="q9_z") as raised:
        dtype("q9_z")
    assert "q4_k" in (raised.value.hint or "")


def test_importing_it_does_not_import_torch():
    code = "import sys, mull.quant.dtype, mull.models.checkpoint.open as o; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
