"""`llm create -q TYPE`: every type of `llm quantize`, from safetensors and from a GGUF of 16-bit floats."""

from __future__ import annotations

import io
from pathlib import Path

import folders
import numpy as np
import pytest
import tiny
from gguf_files import write_gguf
from mull.cli.main import run_command
from mull.models.checkpoint.open import open_checkpoint
from mull.models.checkpoint.summary import quantization
from mull.quant.file_types import FILE_TYPES
from mull.quant.imatrix import Entry, ImportanceMatrix
from mull.registry.store import Store

RNG = np.random.default_rng(0)
METADATA = {
    "llama.block_count": 1,
    "llama.context_length": 4096,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 256,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "general.file_type": 1,
}
MATRICES = [
    f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_down", "ffn_up")
]


@pytest.fixture(autouse=True)
def nothing_is_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


@pytest.fixture
def floats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a GGUF in F16 whose rows every block divides, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    arrays = {name: RNG.standard_normal((256, 256)).astype(np.float16) for name in MATRICES}
    arrays |= {
        name: RNG.standard_normal((40, 256)).astype(np.float16)
        for name in ("token_embd.weight", "output.weight")
    }
    return write_gguf(tmp_path / "floats.gguf", METADATA, arrays)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a tiny folder of safetensors with a tokenizer."""
    monkeypatch.chdir(tmp_path)
    tiny.save("llama", tmp_path / "tiny")
    folders.add_tokenizer(tmp_path / "tiny")
    return tmp_path / "tiny"


def run(text: str, *words: str) -> int:
    Path("Modelfile").write_text(text)
    return run_command(["create", "made", "--quiet", *words])


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_from_a_gguf(kind: str, store: Store, floats: Path, tmp_path: Path) -> None:
    ones = Entry(np.ones((1, 256), np.float32), np.array([512]))
    ImportanceMatrix(dict.fromkeys((*MATRICES, "output.weight"), ones)).write(tmp_path / "i.gguf")
    assert run("FROM floats.gguf\nSYSTEM hi", "-q", kind, "--imatrix", "i.gguf") == 0
    manifest = store.resolve("made")
    contents = store.read(manifest)
    assert contents.system == "hi"
    with open_checkpoint(store.model_path(manifest)) as made:
        assert contents.config.file_type == quantization(made)
        assert made.info("blk.0.ffn_up.weight").dtype == FILE_TYPES[kind].default or "MOE" in kind
    assert floats.is_file()


@pytest.mark.parametrize("kind", ["f16", "Q8_0", "q4_k_m", "copy", "nf4", "int8"])
def test_from_safetensors(kind: str, store: Store, folder: Path) -> None:
    assert run("FROM ./tiny\nPARAMETER seed 3", "--quantize", kind) == 0
    contents = store.read(store.resolve("made"))
    assert contents.parameters == {"seed": 3}
    assert contents.config.model_format == ("safetensors" if kind in ("nf4", "int8") else "gguf")
    words = ["run", "made", "--local", "--raw", "-n", "2", "--quiet", "a b"]
    assert run_command(words) == 0


def test_from_a_name_what_it_says_comes_along(store: Store, floats: Path) -> None:
    assert run("FROM floats.gguf\nSYSTEM old\nPARAMETER stop x\nMESSAGE user hi\nREQUIRES 1.0.0") == 0
    before = store.read(store.resolve("made"))
    Path("Modelfile").write_text("FROM made\nPARAMETER stop y\nPARAMETER seed 1\n")
    assert run_command(["create", "small", "--quiet", "-q", "Q8_0"]) == 0
    after = store.read(store.resolve("small"))
    assert (after.system, after.messages) == (before.system, before.messages)
    assert (after.parameters, after.config.requires) == ({"stop": ["y"], "seed": 1}, "1.0.0")
    assert (before.config.file_type, after.config.file_type) == ("F16", "Q8_0")
    assert store.read(store.resolve("made")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-q", "Q4_K_X"), "there is no type 'Q4_K_X'"),
        (("-q", "IQ2_XXS"), "unusable without importance"),
        (("-q", "nf4"), "only a folder of safetensors becomes nf4"),
        (("--imatrix", "i.gguf"), "--imatrix is for --quantize"),
        (("-q", "Q8_0", "--imatrix", "absent.gguf"), "absent.gguf"),
    ],
)
def test_refused(
    words: tuple[str, ...], message: str, store: Store, floats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("FROM floats.gguf", *words) == 1
    assert message in capsys.readouterr().err
    assert not store.list()
    assert not list(store.root.glob("blobs/*"))


def test_what_is_rounded_is_not_rounded_again(
    store: Store, floats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("FROM floats.gguf", "-q", "Q4_0") == 0
    assert run("FROM made", "-q", "Q8_0") == 1
    assert "quantization is only supported for F16, BF16 and F32 models" in capsys.readouterr().err
