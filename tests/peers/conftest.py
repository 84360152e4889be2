"""What several comparisons with llama.cpp start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from tiny import Tiny

WIDE = Tiny("Llama", "llama", {"hidden_size": 256, "intermediate_size": 512})


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a float32 model whose rows are long enough for every type."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.TINY, "wide", WIDE)
        model = tiny.build("wide")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= 0.4
    return tiny.write_gguf(model, "llama", tmp_path_factory.mktemp("wide") / "f32.gguf")
