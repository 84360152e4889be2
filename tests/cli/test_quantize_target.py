"""`llm quantize` with a size instead of a type, and its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import folders
import gguf
import numpy as np
import pytest
import tiny
from gguf_files import write_gguf
from mull.cli import quantize_target
from mull.cli.main import run_command
from mull.kernels.cpu import native
from mull.models.cache import CacheTypes
from mull.models.checkpoint import new_files
from mull.models.checkpoint.open import open_checkpoint
from mull.models.load import model_config
from mull.quant.file_types import FILE_TYPES
from mull.quant.imatrix import Entry, ImportanceMatrix
from mull.quant.target import Item, Option
from mull.registry.store import Store
from mull.runtime.backend import Backend
from mull.runtime.load_options import LoadOptions
from mull.runtime.memory import weights_room

DEMO = Path(quantize_target.__file__).parents[1] / "models" / "pocket" / "pocket-q8_0.gguf"
WORDS = "the weather is fine and the path is long so we walk on "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dense and a sparse model, one in safetensors, and a text of some 600 tokens."""
    folder = tmp_path_factory.mktemp("target")
    for name in ("llama", "qwen3moe"):
        tiny.write_gguf(tiny.build(name), name, folder / f"{name}.gguf")
    (folder / "qwen3").mkdir()
    tiny.save("qwen3", folder / "qwen3")
    folders.add_tokenizer(folder / "qwen3")
    (folder / "text").write_text(WORDS * 12)
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Run commands in a folder of their own, with links to the models."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> int:
    return run_command(["quantize", *map(str, words), "-t", "1"])


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def kinds(path: Path) -> dict[str, str]:
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("model", ["llama.gguf", "qwen3moe.gguf", "qwen3"])
def test_bits_per_weight_on_a_text(here: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    assert run(model, "out.gguf", "--target-bpw", 7.5, "--file", "text", "--json") == 0
    report = found(capsys)
    assert 7.5 * 0.97 <= report["bits_per_weight"] <= 7.5  # type: ignore[operator]
    search = report["search"]
    assert isinstance(search, dict)
    assert search["measured_kl"] > 0 < search["predicted_kl"]
    assert search["windows"] >= 1
    # Every matrix was tried, in one group or another.
    tried = [name for group in search["groups"] for name in group["tensors"]]
    changed = {t["name"] for t in report["tensors"] if t["from"] != t["to"]}  # type: ignore[attr-defined]
    assert changed <= set(tried)
    assert len(tried) == len(set(tried))
    assert any(group["kl"] > 0 for group in search["groups"])
    assert len(set(kinds(here / "out.gguf").values())) > 2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the demo model in float32, and importance of all of its matrices, drawn."""
    folder = tmp_path_factory.mktemp("demo")
    assert run(DEMO, folder / "f32.gguf", "F32", "--allow-requantize", "-q") == 0
    rng = np.random.default_rng(0)
    entries = {
        tensor.name: Entry(rng.exponential(size=(1, int(tensor.shape[0]))).astype(np.float32), np.array([1]))
        for tensor in gguf.GGUFReader(folder / "f32.gguf").tensors
        if len(tensor.shape) > 1
    }
    ImportanceMatrix(entries).write(folder / "m.gguf")
    return folder / "f32.gguf", folder / "m.gguf"


@pytest.mark.parametrize("bits", [3.5, 4.5, 5.25, 7])
def test_bits_per_weight_of_the_demo_model(
    demo: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], bits: float
) -> None:
    model, importance = demo
    words = ("--target-bpw", bits, "--imatrix", importance, "--json")
    assert run(model, tmp_path / "out.gguf", *words) == 0
    report = found(capsys)
    assert 0.99 * bits <= report["bits_per_weight"] <= bits  # type: ignore[operator]
    tensors = gguf.GGUFReader(tmp_path / "out.gguf").tensors
    total = 8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors)
    assert total == pytest.approx(report["bits_per_weight"], abs=1e-4)


def test_a_file_is_called_by_the_recipe_of_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedding's type is that of most weights, and says nothing about the layers."""

    def chosen(items: Sequence[Item], room: int) -> dict[str, Option]:
        kinds = {"token_embd.weight": "q5_k"} | {
            item.name: ("q4_k", "iq4_xs", "q3_k")[at % 3] for at, item in enumerate(items[1:])
        }
        return {i.name: next(o for o in i.options if o.kind.name == kinds[i.name]) for i in items}

    monkeypatch.setattr(quantize_target, "solve", chosen)
    rng = np.random.default_rng(0)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up")
    shapes = {"token_embd": (400, 256)} | {f"blk.{i}.{name}": (64, 256) for i in range(3) for name in names}
    arrays = {f"{name}.weight": rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    model = write_gguf(tmp_path / "m.gguf", {"llama.block_count": 3}, arrays)
    assert run(model, tmp_path / "out.gguf", "--target-bpw", 4.5, "--json") == 0
    bits = found(capsys)["bits_per_weight"]
    number = gguf.GGUFReader(tmp_path / "out.gguf").fields["general.file_type"].contents()
    (name,) = (kind.name for kind in FILE_TYPES.values() if kind.number == number)
    assert name.startswith(("Q4_K", "IQ4_XS", "Q3_K"))
    assert run_command(["quantize", "--list", str(model), "--json"]) == 0
    sizes = {entry["type"]: entry["bits_per_weight"] for entry in json.loads(capsys.readouterr().out)}
    assert sizes[name] == pytest.approx(bits, abs=0.3)


@pytest.mark.parametrize("alignment", [256, 4096])
def test_the_alignment_of_the_source_counts(tmp_path: Path, alignment: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"blk.{layer}.{name}.weight": rng.standard_normal((10, 288), np.float32)
        for layer in range(6)
        for name in ("attn_q", "attn_k", "ffn_up", "ffn_gate")
    }
    model = write_gguf(tmp_path / "m.gguf", {"llama.block_count": 6}, arrays, alignment=alignment)
    size = model.stat().st_size
    for share in (0.5, 0.62, 0.8):
        assert run(model, tmp_path / "out.gguf", "--target-size", f"{int(share * size)}B", "-q") == 0
        assert (tmp_path / "out.gguf").stat().st_size <= share * size


@pytest.mark.parametrize("nbytes", [60_000, 75_000, 120_000])
def test_the_file_is_never_larger(here: Path, capsys: pytest.CaptureFixture[str], nbytes: int) -> None:
    assert run("llama.gguf", "out.gguf", "--target-size", f"{nbytes}B") == 0
    size = (here / "out.gguf").stat().st_size
    assert 0.96 * nbytes <= size <= nbytes
    err = capsys.readouterr().err
    assert "relative errors of the weights; --file TEXT" in err


def test_what_is_larger_than_the_model_keeps_it(here: Path) -> None:
    assert run("llama.gguf", "out.gguf", "--target-size", "1G", "-q") == 0
    assert set(kinds(here / "out.gguf").values()) == {"F32"}


def test_given_types_and_importance_stay(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("-f", "text", "-c", "64", "-o", "m.gguf", "-q", "-t", "1", "--process-output")
    assert run_command(["imatrix", "llama.gguf", *words]) == 0
    assert ImportanceMatrix.read(here / "m.gguf").importance("output.weight") is not None
    given = ("--tensor-type", "attn_v=f16", "--output-tensor-type", "q8_0")
    assert run("llama.gguf", "out.gguf", "--target-bpw", 7, "--imatrix", "m.gguf", *given) == 0
    types = kinds(here / "out.gguf")
    assert types["output.weight"] == "Q8_0"
    assert {kind for name, kind in types.items() if "attn_v" in name} == {"F16"}
    assert "by the importance matrix" in capsys.readouterr().err


@pytest.mark.skipif(native.BEST is None, reason="without native kernels all types take the same memory")
def test_it_fits_the_memory(here: Path) -> None:
    memory, context = 301 << 20, 128
    with open_checkpoint(here / "llama.gguf") as checkpoint:
        config = model_config(checkpoint)
        room = weights_room(config, memory, context, CacheTypes("f16", "f16"))
        # The reserve and the cache take all but so much.
        spare = 3 * checkpoint.nbytes // 8
    assert room > spare
    assert run("llama.gguf", "out.gguf", "--fit", f"{memory - room + spare}B:{context}", "-q") == 0
    with open_checkpoint(here / "out.gguf") as checkpoint:
        backend = Backend(checkpoint, LoadOptions(num_ctx=context))
        assert backend.plan.weight_bytes <= spare
        assert backend.plan.weight_bytes > 0.85 * spare


def test_a_plan_without_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama.gguf", "--target-bpw", 6, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert "bits per weight" in out.splitlines()[-1]
    assert "chosen by relative errors" in err
    assert not (here / "out.gguf").exists()


def test_the_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("qwen3", "out.gguf", "Q4_0", "--report", "--file", "text", "--json") == 0
    report = found(capsys)["report"]
    assert isinstance(report, dict)
    assert report["kl"]["value"] > 0
    assert report["base"]["speed"]["decode"] > 0
    # The folder's tensors are known by the names that they get.
    errors = [tensor["error"] for tensor in report["tensors"]]
    assert errors == sorted(errors, reverse=True)
    assert 0.01 < errors[0] < 0.2
    assert report["tensors"][0]["name"].endswith(".weight")


def test_the_report_as_tables(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama.gguf", "out.gguf", "Q4_0", "--report", "-f", "text") == 0
    out = capsys.readouterr().out
    assert "KL divergence, mean" in out
    assert "tensors that differ most" in out
    assert run("llama.gguf", "out.gguf", "Q4_0", "--report") == 0
    out = capsys.readouterr().out
    assert "KL divergence" not in out
    assert "tensors that differ most" in out


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_the_picture(here: Path) -> None:
    words = ("--report", "-f", "text", "--plot", "loss.svg", "-q")
    assert run("llama.gguf", "out.gguf", "Q4_0", *words) == 0
    assert (here / "loss.svg").read_text().lstrip().startswith("<?xml")


BAD = [
    (("--target-bpw", "4", "--target-size", "1G"), "--target-size and --target-bpw exclude one another"),
    (("--target-bpw", "0"), "must be above 0"),
    (("--target-bpw", "nan"), "must be above 0"),
    (("--target-bpw", "2"), "too little for this model"),
    (("--target-size", "10KB"), "too little for this model"),
    (("--target-size", "much"), "'much' is no size"),
    (("--fit", "100MB"), "too little for this model"),
    (("--fit", "1G:x"), "'x' is no context length"),
    (("--fit", "1G:0"), "'0' is no context length"),
    (("--fit", "1G:1M"), "and the model's is 256"),
    (("Q4_0", "--target-bpw", "5"), "exclude one another"),
    (("--pure", "--target-bpw", "5"), "--pure is one type"),
    (("--target-bpw", "5", "--file", "none"), "none: no such file"),
    (("--target-bpw", "5", "--file", "short"), "too few to measure on"),
    (("--target-bpw", "5", "--tensor-type", "weight=q8_0"), "no tensor left"),
    (("Q4_0", "--file", "text"), "--file goes with --report"),
    (("Q4_0", "--report", "--plot", "x.png"), "--plot draws the report on a text"),
    (("Q4_0", "--report", "--file", "text", "--plot", "x.doc"), "pictures end in"),
    (("Q4_0", "--report", "--dry-run"), "--dry-run writes nothing"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_what_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    (here / "short").write_text("the weather")
    assert run("llama.gguf", "out.gguf", *words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) <= 2
    assert not (here / "out.gguf").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("none/out.gguf", "none: no such folder"),
        ("llama.gguf", "is the file that is read"),
        ("qwen3", "a folder, not a file"),
        ("full.gguf", "only 1,000 are free there"),
    ],
)
@pytest.mark.parametrize("goal", [("--target-bpw", 7), ("--target-size", "75KB")])
def test_a_bad_place_is_refused_before_the_search(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    message: str,
    goal: tuple[object, ...],
) -> None:
    monkeypatch.setattr(quantize_target, "Trials", not_to_be_called)
    monkeypatch.setattr(quantize_target, "rounding_errors", not_to_be_called)
    if target == "full.gguf":
        monkeypatch.setattr(new_files, "free_bytes", lambda folder: 1000)
    before = sorted(path.name for path in here.iterdir())
    assert run("llama.gguf", target, *goal, "--file", "text") == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_full_store_is_refused_before_the_search(
    store: Store, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize_target, "rounding_errors", not_to_be_called)
    monkeypatch.setattr(new_files, "free_bytes", lambda folder: 1000)
    assert run("llama.gguf", "--name", "small", "--target-bpw", 7) == 1
    assert "only 1,000 are free there" in capsys.readouterr().err
    assert not list((store.root / "incoming").iterdir())


def not_to_be_called(*words: object, **named: object) -> None:
    pytest.fail("the search began")


@pytest.mark.parametrize("text", ["short", "latin", "folder"])
@pytest.mark.parametrize("wanted", [("Q4_0",), ("--target-bpw", 7)])
def test_a_text_that_cannot_be_measured_on_is_refused_before_writing(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, wanted: tuple[object, ...]
) -> None:
    (here / "short").write_text("the weather")
    (here / "latin").write_bytes(WORDS.encode() * 12 + b"\xe9")
    (here / "folder").mkdir()
    assert run("llama.gguf", "out.gguf", *wanted, "--report", "--file", text) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert not (here / "out.gguf").exists()


def test_weights_are_not_rounded_twice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama.gguf", "small.gguf", "Q8_0", "-q") == 0
    assert run("small.gguf", "out.gguf", "--target-bpw", "6") == 1
    assert "rounding it again loses more" in capsys.readouterr().err
    assert run("small.gguf", "out.gguf", "--target-bpw", "6", "--allow-requantize", "-q") == 0
    assert "Q5_0" in kinds(here / "out.gguf").values()
