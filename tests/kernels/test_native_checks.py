"""The checks of the native kernels that are written in C++, run on the extension as it was built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mull.kernels.cpu import native

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels" / "cpu"
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
# The extension's symbols are there for the check to link to, as it brings none of its own.
RUN = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
names = (ctypes.c_char_p * 1)(b"check")
sys.exit(ctypes.CDLL(sys.argv[2]).main(1, names))
"""

pytestmark = [
    pytest.mark.skipif(not native.instruction_sets(), reason="no native kernels on this machine"),
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="symbols are looked up otherwise there"),
]


@pytest.mark.parametrize("name", ["check", "check_attention", "check_programs", "check_abi", "check_encode"])
def test_native(name, tmp_path):
    library = tmp_path / f"{name}.so"
    flags = ["-std=c++17", "-O1", "-g0", "-fPIC", "-shared", "-pthread", f"-I{KERNELS}"]
    subprocess.run([COMPILER, *flags, str(HERE / f"{name}.cpp"), "-o", str(library)], check=True)
    extension = native._native.__file__
    command = [sys.executable, "-c", RUN, extension, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
