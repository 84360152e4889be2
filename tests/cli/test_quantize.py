"""`llm quantize`: what it writes, what it prints, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import folders
import gguf
import numpy as np
import pytest
import tiny
from gguf_files import write_gguf
from mull.cli.main import run_command
from mull.cli.quantize_source import parse_size
from mull.errors import InvalidRequest
from mull.llm import LLM
from mull.models.checkpoint import new_files
from mull.quant.imatrix import Entry, ImportanceMatrix
from mull.registry.store import Store

METADATA = {
    "general.name": "tiny",
    "llama.block_count": 1,
    "llama.context_length": 4096,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 4,
}
RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


ARRAYS = {
    "token_embd.weight": weights(40, 64),
    "output.weight": weights(40, 64),
    "output_norm.weight": np.ones(64, dtype=np.float32),
    **{f"blk.0.{name}.weight": weights(64, 64) for name in ("attn_q", "attn_k", "attn_v", "ffn_down")},
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a GGUF in float32, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return write_gguf(tmp_path / "tiny.gguf", METADATA, ARRAYS)


def run(*words: object) -> int:
    return run_command(["quantize", *map(str, words)])


def types(path: Path) -> dict[str, str]:
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(
    "words", [("out.gguf", "Q8_0"), ("out.gguf", "q8_0"), ("out-q8_0.gguf",), ("out.Q8_0.gguf",)]
)
def test_a_type_is_given_or_named(model, tmp_path, capsys, words):
    assert run("tiny.gguf", *words) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{words[0]}: ")
    assert "8." in err
    found = types(tmp_path / words[0])
    assert found["blk.0.attn_q.weight"] == "Q8_0"
    assert found["output_norm.weight"] == "F32"


def test_options_change_the_mixture(model, tmp_path):
    options = [
        "--tensor-type",
        "attn_[kv]=q4_0",
        "--tensor-type",
        "attn_v=f16",
        "--token-embedding-type",
        "bf16",
    ]
    assert run("tiny.gguf", "a.gguf", "Q8_0", "--output-tensor-type", "q4_0", *options, "-q") == 0
    found = types(tmp_path / "a.gguf")
    assert (found["output.weight"], found["token_embd.weight"]) == ("Q4_0", "BF16")
    assert [found[f"blk.0.attn_{x}.weight"] for x in "qkv"] == ["Q8_0", "Q4_0", "Q4_0"]
    assert run("tiny.gguf", "b.gguf", "Q4_0", "--pure", "--leave-output-tensor", "-q", "-t", "1") == 0
    found = types(tmp_path / "b.gguf")
    assert (found["output.weight"], found["token_embd.weight"]) == ("F32", "Q4_0")


def test_splitting_joining_and_metadata(model, tmp_path, capsys):
    assert (
        run("tiny.gguf", "s.gguf", "COPY", "--split-max-size", "20KB", "--override-kv", "general.name=str:x")
        == 0
    )
    assert "s-00001-of-00006.gguf to s-00006-of-00006.gguf: " in capsys.readouterr().err
    assert run("s-00001-of-00006.gguf", "k.gguf", "Q8_0", "--keep-split", "-q") == 0
    assert len(list(tmp_path.glob("k-*-of-00006.gguf"))) == 6
    assert run("s-00002-of-00006.gguf", "j.gguf", "COPY", "-q") == 0
    assert gguf.GGUFReader(tmp_path / "j.gguf").fields["general.name"].contents() == "x"
    # The parts to be written would be those that are read.
    assert run("s-00001-of-00006.gguf", "s.gguf", "Q8_0", "--keep-split") == 1
    assert "is the file that is read" in capsys.readouterr().err


def test_the_plan_of_a_dry_run(model, tmp_path, capsys):
    assert run("tiny.gguf", "Q4_K_M", "--dry-run") == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["TENSOR", "FROM", "TO", "SIZE", "BITS"]
    assert ["output_norm.weight", "f32", "=", "256", "B", "32.00"] in lines
    assert "blk.0.attn_q.weight    f32   q5_0  2.8 KB  5.50   rows of 64: no q4_k" in out.splitlines()
    assert out.splitlines()[-1] == "7 tensors: 86 KB to 19 KB (22%), 7.07 bits per weight"
    assert "rows that no block divides" in err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]
    assert run("tiny.gguf", "q.gguf", "IQ2_XS", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["source_size"] == sum(array.nbytes for array in ARRAYS.values())
    assert plan["size"] == sum(tensor["size"] for tensor in plan["tensors"])
    assert plan["bits_per_weight"] == round(plan["size"] * 8 / plan["parameters"], 4)


def test_a_dry_run_says_what_would_be_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arrays = {"blk.0.attn_q.weight": (weights(4, 256), "q8_0"), "output.weight": weights(4, 256)}
    write_gguf(tmp_path / "m.gguf", METADATA, arrays)
    assert run("m.gguf", "IQ2_XS", "--dry-run") == 0
    err = capsys.readouterr().err
    assert "note: this needs --imatrix, for blk.0.attn_q.weight" in err
    assert "note: this needs --allow-requantize, for blk.0.attn_q.weight" in err
    assert run("m.gguf", "o.gguf", "IQ2_XS", "--allow-requantize") == 1
    assert "would become iq2_xs, which is unusable without importance" in capsys.readouterr().err
    assert run("m.gguf", "o.gguf", "Q4_0") == 1
    assert "blk.0.attn_q.weight is q8_0 already" in capsys.readouterr().err
    assert run("m.gguf", "o.gguf", "F16", "--allow-requantize", "-q") == 0


def test_a_report_in_json(model, tmp_path, capsys):
    assert run("tiny.gguf", "out.gguf", "Q8_0", "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert report["files"] == ["out.gguf"]
    assert report["name"] is None
    assert report["size"] < (tmp_path / "out.gguf").stat().st_size


def test_importance_is_used_and_noted(model, tmp_path, capsys):
    entry = Entry(np.ones((1, 64), np.float32), np.array([512]))
    ImportanceMatrix({"blk.0.attn_q.weight": entry}, ("wiki.txt",), 3).write(tmp_path / "i.gguf")
    assert run("tiny.gguf", "out.gguf", "Q8_0", "--imatrix", "i.gguf", "-q") == 0
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    found = {key: field.contents() for key, field in fields.items() if key.startswith("quantize.")}
    assert found == {
        "quantize.imatrix.file": "i.gguf",
        "quantize.imatrix.dataset": "wiki.txt",
        "quantize.imatrix.entries_count": 1,
        "quantize.imatrix.chunks_count": 3,
    }
    other = Entry(np.ones((1, 32), np.float32), np.array([512]))
    ImportanceMatrix({"blk.0.attn_q.weight": other}).write(tmp_path / "j.gguf")
    assert run("tiny.gguf", "out.gguf", "Q8_0", "--imatrix", "j.gguf") == 1
    assert "measured on another model" in capsys.readouterr().err


def test_importance_that_covers_little_is_noted(model, tmp_path, capsys):
    entry = Entry(np.ones((1, 64), np.float32), np.array([512]))
    names = [name for name, array in ARRAYS.items() if array.ndim > 1]
    # Embedding and head are left out by llama-imatrix, and are not missed.
    whole = {name: entry for name in names if name.startswith("blk.")}
    ImportanceMatrix(whole | {"output.weight": entry}).write(tmp_path / "whole.gguf")
    assert run("tiny.gguf", "out.gguf", "Q4_0", "--imatrix", "whole.gguf") == 0
    assert "importance matrix" not in capsys.readouterr().err
    few = dict.fromkeys(("blk.0.attn_q.weight", "blk.78.attn_q.weight", "blk.79.attn_q.weight"), entry)
    ImportanceMatrix(few).write(tmp_path / "few.gguf")
    expected = (
        "note: the importance matrix covers 1 of the model's 4 matrices and names blk.78.attn_q.weight and 1 more, "
        "which the model has not"
    )
    for words in (("Q4_0",), ("--target-bpw", 9), ("Q4_0", "--dry-run")):
        assert run("tiny.gguf", "out.gguf", *words, "--imatrix", "few.gguf") == 0
        assert capsys.readouterr().err.splitlines().count(expected) == 1
    assert run("tiny.gguf", "out.gguf", "Q4_0", "--imatrix", "few.gguf", "-q") == 0
    assert capsys.readouterr().err == ""


def test_the_list_of_types(model, capsys):
    assert run("--list") == 0
    general = capsys.readouterr().out
    assert "Q4_K_M     4.89   small: what most people choose" in general.splitlines()
    assert run("--list", "tiny.gguf", "--json") == 0
    entries = {entry["type"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["F32"]["size"] == sum(array.nbytes for array in ARRAYS.values())
    assert entries["Q8_0"]["bits_per_weight"] < 9
    assert run("--list", "tiny.gguf") == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["TYPE", "BITS", "SIZE", "EXPECTED", "LOSS"]


def test_into_the_store(store: Store, model, tmp_path, capsys):
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf\nSYSTEM hi\nPARAMETER top_k 5\n")
    assert run_command(["create", "base"]) == 0
    capsys.readouterr()
    assert run("base", "Q8_0", "--name", "small:q8") == 0
    assert "small:q8: " in capsys.readouterr().err
    manifest = store.resolve("small:q8")
    contents = store.read(manifest)
    assert (contents.system, contents.parameters) == ("hi", {"top_k": 5})
    assert contents.config.file_type == "Q8_0"
    assert types(store.model_path(manifest))["blk.0.attn_q.weight"] == "Q8_0"
    assert not list((store.root / "incoming").iterdir())
    assert run("tiny.gguf", "--name", "copy", "COPY", "-q") == 0
    assert store.read(store.resolve("copy")).system is None


def test_what_a_killed_process_left_in_the_store_goes(store: Store, model):
    left = store.root / "incoming" / "tmpx"
    left.mkdir(parents=True)
    (left / "model.gguf").write_bytes(b"x")
    assert run("tiny.gguf", "Q8_0", "--name", "one", "-q") == 0
    assert not left.exists()


def test_a_folder_is_converted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    tiny.save("qwen3", tmp_path / "folder")
    folders.add_tokenizer(tmp_path / "folder")
    assert run("folder", "plain.gguf") == 0
    assert set(types(tmp_path / "plain.gguf").values()) == {"F32"}
    assert run("folder", "small.gguf", "Q8_0") == 0
    found = types(tmp_path / "small.gguf")
    assert found["blk.1.attn_q.weight"] == "Q8_0"
    with LLM.open(str(tmp_path / "folder")) as folder, LLM.open(str(tmp_path / "plain.gguf")) as file:
        ids = list(range(3, 30))
        assert (folder.logits(ids) - file.logits(ids)).abs().max() < 1e-4


BAD = [
    ((), "what is to be quantized"),
    (("tiny.gguf",), "where is the model to be written"),
    (("tiny.gguf", "Q8_0"), "where is the model to be written"),
    (("tiny.gguf", "out.gguf"), "which type"),
    (("tiny.gguf", "out.gguf", "Q8"), "there is no type 'Q8'"),
    (("tiny.gguf", "Q8_0", "out.gguf"), "'out.gguf' is no type"),
    (("tiny.gguf", "tiny.gguf", "Q8_0"), "is the file that is read"),
    (("tiny.gguf", "link.gguf", "Q8_0"), "is the file that is read"),
    (("link.gguf", "tiny.gguf", "Q8_0"), "is the file that is read"),
    (("tiny.gguf", "hard.gguf", "Q8_0"), "is the file that is read"),
    (("tiny.gguf", "folder", "Q8_0"), "a folder, not a file"),
    (("tiny.gguf", "none/out.gguf", "Q8_0"), "no such folder"),
    (("tiny.gguf", os.devnull, "Q8_0"), "not a file that can be replaced"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--name", "x"), "exclude one another"),
    (("tiny.gguf", "Q8_0", "--name", "a b"), "invalid model name"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--tensor-type", "x=q4_0"), "matches no tensor"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--tensor-type", "(=q4_0"), "not a regular expression"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--output-tensor-type", "q9"), "cannot become 'q9'"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--override-kv", "x"), "is not KEY=TYPE:VALUE"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--split-max-size", "big"), "'big' is no size"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--split-max-tensors", "0"), "at least 1"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--keep-split", "--split-max-size", "1G"), "exclude one another"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--imatrix", "none"), "no such file"),
    (("tiny.gguf", "out.gguf", "Q8_0", "--threads", "-1"), "--threads must be"),
    (("nan.gguf", "out.gguf", "Q8_0"), "nan.gguf: blk.0.attn_k.weight: a weight is not finite"),
    (("cut.gguf", "out.gguf", "Q8_0"), "the file is truncated"),
    (("part-00001-of-00002.gguf", "out.gguf", "Q8_0"), "part-00002-of-00002.gguf: this part of a model"),
    (("none", "out.gguf", "Q8_0"), "model 'none' not found"),
    (("--list", "tiny.gguf", "Q8_0"), "--list takes one model"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_what_is_refused(store, model, tmp_path, capsys, words, message):
    (tmp_path / "link.gguf").symlink_to("tiny.gguf")
    (tmp_path / "hard.gguf").hardlink_to(model)
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut.gguf").write_bytes(model.read_bytes()[:-1000])
    write_gguf(tmp_path / "part-00001-of-00002.gguf", METADATA, ARRAYS)
    write_gguf(
        tmp_path / "nan.gguf",
        METADATA,
        ARRAYS | {"blk.0.attn_k.weight": np.full((64, 64), np.nan, np.float32)},
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(*words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "models"} == before


def test_a_full_disk(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(new_files, "free_bytes", lambda folder: 1000)
    assert run("tiny.gguf", "out.gguf", "Q8_0") == 1
    assert "only 1,000 are free there" in capsys.readouterr().err
    assert not (tmp_path / "out.gguf").exists()


def test_sizes():
    assert [parse_size(text) for text in ("5G", "500 MB", "1.5GiB", "1000", "2k")] == [
        5 * 10**9, 5 * 10**8, 3 << 29, 1000, 2000,
    ]  # fmt: skip
    for text in ("", "0", "-5G", "5T", "G", "1e9", "nan"):
        with pytest.raises(InvalidRequest):
            parse_size(text)


HELD = """
import sys
from mull.cli.main import main
from mull.models import quantize

real = quantize._encoded

def held(*args):
    print("here", flush=True)
    sys.stdin.read()
    return real(*args)

quantize._encoded = held
sys.argv = ["llm", "quantize", "tiny.gguf", "out.gguf", "Q8_0"]
main()
"""


@pytest.mark.parametrize(
    ("number", "code", "left"), [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 0), (signal.SIGKILL, -9, 1)]
)
def test_an_end_in_the_middle_leaves_no_file(model, tmp_path, number, code, left):
    (tmp_path / "out.gguf").write_bytes(b"older")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HELD], cwd=tmp_path, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.wait() == code
    assert (tmp_path / "out.gguf").read_bytes() == b"older"
    assert len(list(tmp_path.glob(".mull-*"))) == left
    assert run("tiny.gguf", "out.gguf", "Q8_0", "-q") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "tiny.gguf"]
