"""Models quantized by bitsandbytes, while loading or before: logits equal transformers', folders go both ways."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from mull.errors import CorruptFile, InvalidRequest, NotSupported
from mull.kernels.cpu import native
from mull.models import bnb_folder
from mull.models.bnb_folder import save_folder
from mull.models.checkpoint.open import open_checkpoint
from mull.quant import bnb
from mull.runtime.alone import run_alone
from mull.runtime.backend import Backend
from mull.runtime.load_options import LoadOptions
from safetensors.torch import load_file, save_file

IDS = [1, 5, 9, 33, 77, 12, 100, 3, 8, 90, 45, 6]
# bitsandbytes' own kernel misreads blocks that cross rows: feed-forward layers of 96 have them, real models have not.
SIZES = {**tiny.BASE, "intermediate_size": 128}
each_type = pytest.mark.parametrize("kind", bnb.TYPES)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def plain(request, tmp_path_factory):
    """Return a folder in float32, and a maker of its transformers model."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "BASE", SIZES)
        tiny.save(request.param, folder)
        yield folder, lambda: tiny.build(request.param)


def with_layers(model, kind):
    """Put bitsandbytes' layers into a model, as transformers does, and return it."""
    nn = bnb.library().nn
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        rows, cols = module.weight.shape
        if kind == "int8":
            layer = nn.Linear8bitLt(cols, rows, bias=False, has_fp16_weights=False, threshold=6.0)
            layer.weight = nn.Int8Params(module.weight.data, requires_grad=False).to("cpu")
        else:
            layer = nn.Linear4bit(cols, rows, bias=False, quant_type=kind, compute_dtype=torch.float32)
            layer.weight = nn.Params4bit(
                module.weight.data, requires_grad=False, quant_type=kind, module=layer
            ).to("cpu")
        model.set_submodule(name, layer)
    return model


def tensors_of(model):
    """Return what transformers saves of a model: what is shared only once."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}


def logits_of(model):
    """Return the logits of weights that are unpacked, without further rounding of activations."""
    with torch.no_grad():
        return model.train()(torch.tensor([IDS])).logits[0]


def ours(folder, **options):
    """Return logits and the backend that computed them."""
    with open_checkpoint(folder) as checkpoint:
        backend = Backend(checkpoint, LoadOptions(num_ctx=64, threads=1, **options))
        model = backend.load(None)
        return run_alone(model, backend.new_cache(model, len(IDS)), IDS, 0).float(), backend


def config_of(kind):
    four = kind != "int8"
    return {"quant_method": "bitsandbytes", "load_in_4bit": four, "load_in_8bit": not four}


@each_type
def test_logits_equal_those_of_transformers_layers(plain, kind, tmp_path):
    folder, make = plain
    model = with_layers(make(), kind)
    expected = logits_of(model)
    # As transformers saves it
    save_file(tensors_of(model), tmp_path / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": config_of(kind)}))
    for logits, backend in (ours(tmp_path, dtype="f32"), ours(folder, quantize=kind, dtype="f32")):
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        assert next(iter(backend.checkpoint.dtype_counts())) == kind
    for logits, backend in (ours(tmp_path), ours(folder, quantize=kind)):
        if native.instruction_sets():
            assert backend.isa is not None
            assert not backend.notes
        assert float((logits - expected).norm() / expected.norm()) < 0.05


@each_type
def test_a_saved_folder_is_the_one_that_transformers_saves(plain, kind, tmp_path):
    folder, make = plain
    expected = tensors_of(with_layers(make(), kind))
    (folder / "tokenizer.json").write_text("{}")
    with open_checkpoint(folder) as checkpoint:
        seen = []
        written = save_folder(
            checkpoint, tmp_path / "out", kind, lambda done, total: seen.append((done, total))
        )
    assert seen[-1][0] == seen[-1][1] > 0
    assert {path.name for path in written} >= {"config.json", "tokenizer.json", "model.safetensors"}
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        if "quant_state" in name:
            assert json.loads(bytes(got[name].tolist())) == json.loads(bytes(tensor.tolist()))
        else:
            assert got[name].dtype == tensor.dtype
            assert torch.equal(got[name], tensor), name
    a, b = ours(tmp_path / "out", dtype="f32"), ours(folder, quantize=kind, dtype="f32")
    assert torch.equal(a[0], b[0])


@each_type
def test_transformers_loads_a_saved_folder(plain, kind, tmp_path):
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    with open_checkpoint(plain[0]) as checkpoint:
        save_folder(checkpoint, tmp_path / "out", kind)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, device_map="cpu"
    )
    logits, _ = ours(tmp_path / "out", dtype="f32")
    torch.testing.assert_close(logits, logits_of(model), atol=1e-5, rtol=1e-5)


def test_a_large_folder_is_written_in_parts(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(bnb_folder, "_PART", 50_000)
    with open_checkpoint(plain[0]) as checkpoint:
        written = save_folder(checkpoint, tmp_path / "out", "nf4")
    assert sum(path.suffix == ".safetensors" for path in written) > 1
    a, b = ours(tmp_path / "out", dtype="f32"), ours(plain[0], quantize="nf4", dtype="f32")
    assert torch.equal(a[0], b[0])


def test_what_fails_leaves_no_folder(plain, tmp_path, monkeypatch):
    folder, out = plain[0], tmp_path / "out"
    monkeypatch.setattr(bnb, "quantize", lambda *args: (_ for _ in ()).throw(CorruptFile("broken")))
    with open_checkpoint(folder) as checkpoint:
        with pytest.raises(CorruptFile, match=r"_proj\.weight: broken"):
            save_folder(checkpoint, out, "nf4")
        assert not out.exists()
        with pytest.raises(InvalidRequest, match="exists already"):
            save_folder(checkpoint, folder, "nf4")


def test_experts_and_gguf_files_are_refused(tmp_path):
    model = tiny.save("qwen3moe", tmp_path / "moe")
    assert model.config.num_experts
    with open_checkpoint(tmp_path / "moe") as checkpoint, pytest.raises(NotSupported, match="experts"):
        save_folder(checkpoint, tmp_path / "out", "nf4")
    path = tiny.write_gguf(tiny.build("llama"), "llama", tmp_path / "tiny.gguf")
    with open_checkpoint(path) as checkpoint, pytest.raises(InvalidRequest, match="GGUF"):
        save_folder(checkpoint, tmp_path / "out", "nf4")


def test_experts_are_quantized_while_loading_stacked_or_apart(tmp_path):
    model = tiny.save("qwen3moe", tmp_path / "moe")
    path = tiny.write_gguf(model, "qwen3moe", tmp_path / "moe.gguf")
    apart, backend = ours(tmp_path / "moe", quantize="int8", dtype="f32")
    assert next(iter(backend.checkpoint.dtype_counts())) == "int8"
    stacked, _ = ours(path, quantize="int8", dtype="f32")
    torch.testing.assert_close(apart, stacked, atol=1e-4, rtol=1e-4)


def test_weights_that_are_quantized_already_stay_so(plain, tmp_path):
    with open_checkpoint(plain[0]) as checkpoint:
        save_folder(checkpoint, tmp_path / "out", "nf4")
    for kind in ("nf4", "q4_0"):
        with pytest.raises(InvalidRequest, match="are nf4 already"):
            ours(tmp_path / "out", quantize=kind)


def test_without_any_kernel_that_is_said(plain):
    _, backend = ours(plain[0], quantize="int8", dtype="f32")
    assert "no kernel for int8 on cpu" in backend.notes[0]
