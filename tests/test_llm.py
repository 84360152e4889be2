"""The waist, end to end on tiny models: answers, reuse, limits, defaults and their sources."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from dataclasses import replace

import pytest
import tiny
import torch
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Progress, Text
from mull.errors import (
    ContextExceeded,
    InvalidRequest,
    NotSupported,
    OutOfMemory,
    TemplateError,
    TokenizerError,
    UnsupportedArchitecture,
)
from mull.kernels.cpu import native
from mull.llm import LLM
from mull.registry.create import Details, create
from mull.registry.modelfile import Modelfile
from mull.registry.store import Store
from mull.runtime import assembly
from mull.runtime.load_options import LoadOptions
from mull.settings import load_settings


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    return tiny.write_gguf(tiny.build("qwen3"), "qwen3", path)


@pytest.fixture(scope="module")
def model(gguf):
    with LLM.open(str(gguf)) as llm:
        yield llm


def greedy(text, **options):
    return ChatRequest(raw=text, options={"temperature": 0, "num_predict": 12, **options})


def reply(model, request):
    events = list(model.chat(request))
    assert isinstance(events[-1], Done)
    return "".join(e.text for e in events if isinstance(e, Text)), events[-1]


def test_greedy_ids_follow_the_logits(model):
    _, done = reply(model, greedy("abc"))
    ids = model.tokenizer.encode("abc", special=True)
    for token in done.token_ids:
        assert model.logits(ids)[-1].argmax() == token
        ids.append(token)
    assert done.reason == "length"
    assert done.usage.completion_tokens == 12
    assert done.usage.prompt_tokens == len(model.tokenizer.encode("abc", special=True))


def test_logits_of_a_part_equal_those_of_the_whole(model):
    ids = model.tokenizer.encode("the quick brown fox")
    torch.testing.assert_close(model.logits(ids, 5), model.logits(ids)[5:], atol=1e-5, rtol=1e-5)


def test_a_second_turn_reuses_the_first(model):
    text = "x" * 60
    first, _ = reply(model, greedy(text))
    _, done = reply(model, greedy(text + first[:0] + "yz"))
    assert done.usage.cached_tokens >= 48
    _, fresh = reply(model, greedy("q" * 60))
    assert fresh.usage.cached_tokens < 16


def test_the_same_seed_gives_the_same_answer(model):
    request = ChatRequest(raw="seed", options={"temperature": 1.5, "num_predict": 20, "seed": 7})
    assert reply(model, request)[1].token_ids == reply(model, request)[1].token_ids
    other = replace(request, options={**request.options, "seed": 8})
    assert reply(model, request)[1].token_ids != reply(model, other)[1].token_ids


def test_a_random_seed_is_reported_and_repeats_the_answer(model):
    request = ChatRequest(raw="seed", options={"temperature": 1.5, "num_predict": 20})
    _, done = reply(model, request)
    again = replace(request, options={**request.options, "seed": done.seed})
    assert reply(model, again)[1].token_ids == done.token_ids


def test_stop_strings_cut_the_text(model):
    whole, _ = reply(model, greedy("hello"))
    stop = whole[3:6]
    cut, done = reply(model, greedy("hello", stop=[stop]))
    assert cut == whole[: whole.index(stop)]
    assert done.reason == "stop"


def test_closing_the_iterator_stops_the_answer(model):
    events = model.chat(ChatRequest(raw="go on", options={"num_predict": 100}))
    next(e for e in events if isinstance(e, Text))
    events.close()
    assert reply(model, greedy("abc"))[1].reason == "length"


def test_long_prompts_report_progress(gguf, monkeypatch):
    monkeypatch.setattr(assembly, "CHUNK", 32)
    with LLM.open(str(gguf)) as llm:
        events = list(llm.chat(greedy("y" * 100)))
    steps = [e for e in events if isinstance(e, Progress)]
    assert [s.done for s in steps] == [32, 64, 96]
    assert {s.total for s in steps} == {101}


def test_a_prompt_that_is_too_long_says_by_how_much(model):
    with pytest.raises(ContextExceeded, match=r"301 tokens long, 46 more than the context of 256"):
        model.chat(greedy("z" * 300))


def test_a_broken_template_leaves_raw_prompts(tmp_path, gguf):
    settings = load_settings({"MULL_MODELS": str(tmp_path / "store"), "HOME": str(tmp_path)})
    modelfile = Modelfile.parse(f'FROM {gguf}\nTEMPLATE "{{% if messages %}}"')
    create(
        Store(settings.models_dir),
        "broken",
        modelfile,
        base=tmp_path,
        inspect=lambda path: Details("gguf", "qwen3"),
    )
    with LLM.open("broken", settings=settings) as llm:
        assert reply(llm, greedy("abc"))[1].usage.completion_tokens == 12
        with pytest.raises(TemplateError, match="Modelfile, line 1") as caught:
            llm.chat(ChatRequest(messages=(Message("user", "a"),)))
        assert "--raw" in caught.value.hint


def test_markup_that_the_model_lacks_is_refused_in_prompts_only(tmp_path):
    settings = replace(tiny.TINY["qwen3"], config={**tiny.TINY["qwen3"].config, "vocab_size": tiny.VOCAB - 2})
    path = write_with_tokens(tmp_path, settings, {tiny.VOCAB - 2: 3, tiny.VOCAB - 1: 3})
    with LLM.open(str(path)) as llm:
        assert llm.tokenizer.vocab_size == llm.config.vocab_size + 2
        assert reply(llm, greedy("abc"))[1].usage.completion_tokens >= 1
        markup = llm.tokenizer.token_text(tiny.VOCAB - 1)
        with pytest.raises(InvalidRequest, match=f"{markup}.*does not know"):
            llm.chat(greedy(f"a{markup}"))
        with pytest.raises(InvalidRequest, match="id -1"):
            llm.logits([1, -1])
        assert llm.bench(4, 1, 0) > 0


def test_text_that_the_model_lacks_is_refused_at_once(tmp_path):
    settings = replace(tiny.TINY["qwen3"], config={**tiny.TINY["qwen3"].config, "vocab_size": tiny.VOCAB - 2})
    with pytest.raises(TokenizerError, match="128 tokens and the model only 126"):
        LLM.open(str(write_with_tokens(tmp_path, settings, {})))


def write_with_tokens(folder, settings, types):
    """Write a GGUF of `settings` whose tokenizer has tiny.VOCAB tokens, those in `types` of these types."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.TINY, "small", settings)
        add_tokenizer = tiny.add_tokenizer

        def add(writer, vocab_size):
            add_tokenizer(writer, tiny.VOCAB)
            [listed] = [data for data in writer.kv_data if "tokenizer.ggml.token_type" in data]
            for token, kind in types.items():
                listed["tokenizer.ggml.token_type"].value[token] = kind

        patch.setattr(tiny, "add_tokenizer", add)
        return tiny.write_gguf(tiny.build("small"), "qwen3", folder / "small.gguf")


def test_templates_get_the_end_token_that_the_file_declares(tmp_path, monkeypatch):
    add_tokenizer = tiny.add_tokenizer

    def add(writer, vocab_size):
        add_tokenizer(writer, vocab_size)
        [declared] = [data for data in writer.kv_data if "tokenizer.ggml.eos_token_id" in data]
        declared["tokenizer.ggml.eos_token_id"].value = 120
        writer.add_chat_template("{{ messages[0].content }}{{ eos_token }}")

    monkeypatch.setattr(tiny, "add_tokenizer", add)
    path = tiny.write_gguf(tiny.build("qwen3"), "qwen3", tmp_path / "tiny.gguf")
    with LLM.open(str(path)) as llm:
        assert llm.tokenizer.eos_ids == {2, 120}
        assert llm.template.render([Message("user", "a")]) == "a" + llm.tokenizer.token_text(120)


@pytest.mark.parametrize("num_ctx", [0, -5])
def test_a_context_of_nothing_is_refused(gguf, num_ctx):
    with pytest.raises(InvalidRequest, match="at least 1 token"):
        LLM.open(str(gguf), LoadOptions(num_ctx=num_ctx))


def test_a_context_beyond_the_models_is_refused(gguf):
    with pytest.raises(InvalidRequest, match="256"):
        LLM.open(str(gguf), LoadOptions(num_ctx=1000))


def test_a_context_beyond_memory_says_what_fits(gguf, monkeypatch):
    monkeypatch.setattr("mull.runtime.backend.available_memory", lambda device: 301 << 20)
    monkeypatch.setattr("mull.runtime.memory.MIN_CONTEXT", 1)
    monkeypatch.setattr("mull.runtime.memory.RESERVE", (301 << 20) - 500_000)
    with pytest.raises(OutOfMemory, match="a context of 256 tokens needs"):
        LLM.open(str(gguf), LoadOptions(num_ctx=256))


def test_weights_that_do_not_fit_are_dequantized_per_use(gguf, model, monkeypatch):
    monkeypatch.setattr("mull.runtime.memory.WEIGHTS_SHARE", 0.0)
    with LLM.open(str(gguf)) as llm:
        assert not llm.plan.hold
        assert "unpacked at each use" in llm.notes[0]
        assert reply(llm, greedy("abc"))[1].token_ids == reply(model, greedy("abc"))[1].token_ids


@pytest.mark.skipif(not native.instruction_sets(), reason="no native kernels on this machine")
def test_native_kernels_serve_quantized_files_unless_a_type_is_asked_for():
    answers = {}
    for dtype in ("auto", "bf16", "f32"):
        with LLM.open("pocket", LoadOptions(dtype=dtype)) as llm:
            assert (native.instruction_sets()[0].name in llm.backend) == (dtype == "auto")
            answers[dtype] = llm.logits(llm.tokenizer.encode("What is 12 + 345?"))
    largest = answers["f32"].abs().max()
    assert (answers["auto"] - answers["f32"]).abs().max() < 0.03 * largest
    assert (answers["bf16"] - answers["f32"]).abs().max() < 0.03 * largest
    assert not torch.equal(answers["auto"], answers["bf16"])


def test_a_dropped_model_is_freed(gguf):
    before = threading.active_count()
    llm = LLM.open(str(gguf))
    reply(llm, greedy("abc"))
    llm.logits([1, 2, 3])
    seen = weakref.ref(llm._model)
    thread = llm._worker._thread
    del llm
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    gc.collect()
    assert seen() is None
    assert threading.active_count() == before


def test_a_program_that_drops_its_model_last_ends_in_order(gguf):
    code = f"from mull.llm import LLM; model = LLM.open({str(gguf)!r}); model.logits([1, 2, 3]); del model"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_loading_is_told_with_the_first_reply(gguf):
    with LLM.open(str(gguf)) as llm:
        assert reply(llm, greedy("a"))[1].usage.load_ms == llm.load_ms > 0
        assert reply(llm, greedy("b"))[1].usage.load_ms == 0


def test_options_are_checked_before_anything_runs(model):
    with pytest.raises(InvalidRequest, match="top_p"):
        model.chat(greedy("a", top_p=2))
    with pytest.raises(InvalidRequest, match="num_predict must be"):
        model.chat(greedy("a", num_predict=2.5))
    with pytest.raises(InvalidRequest, match="unknown option 'tempreature'") as caught:
        model.chat(greedy("a", tempreature=1))
    assert "temperature" in caught.value.hint


def test_thinking_on_a_model_that_cannot_is_refused(model):
    with pytest.raises(NotSupported, match="cannot think"):
        model.chat(ChatRequest(messages=(Message("user", "a"),), think="on"))


def test_an_unsupported_architecture_names_the_supported(tmp_path):
    path = tiny.write_gguf(tiny.build("llama"), "gptj", tmp_path / "x.gguf")
    with pytest.raises(UnsupportedArchitecture, match="gptj") as caught:
        LLM.open(str(path))
    assert "qwen3" in caught.value.hint


def test_defaults_say_where_they_come_from(tmp_path, gguf):
    settings = load_settings({"MULL_MODELS": str(tmp_path / "store"), "HOME": str(tmp_path)})
    modelfile = (
        f"FROM {gguf}\nPARAMETER top_k 7\nPARAMETER num_ctx 128\nPARAMETER think_budget 9\nSYSTEM be brief\n"
    )
    store = Store(settings.models_dir)
    create(
        store,
        "mine",
        Modelfile.parse(modelfile),
        base=tmp_path,
        inspect=lambda path: Details("gguf", "qwen3"),
    )
    with LLM.open("mine", settings=settings) as llm:
        assert (llm.defaults["top_k"].value, llm.defaults["top_k"].source) == (7, "modelfile")
        assert llm.defaults["temperature"].source == "mull"
        assert llm.context_length == 128
        assert llm.notes == []
        _, done = reply(llm, ChatRequest(messages=(Message("user", "a"),), options={"num_predict": 2}))
        assert done.usage.prompt_tokens > len("be brief")


def test_a_folder_brings_its_own_defaults(tmp_path):
    tiny.save("llama", tmp_path)
    characters = {chr(33 + i): i + 3 for i in range(94)}
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2, **characters}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": False, "use_regex": False, "trim_offsets": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False, "trim_offsets": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.3, "eos_token_id": [2, 5]}')
    with LLM.open(str(tmp_path)) as llm:
        assert (llm.defaults["temperature"].value, llm.defaults["temperature"].source) == (
            0.3,
            "generation_config",
        )
        assert llm.tokenizer.eos_ids >= {2, 5}
        assert reply(llm, greedy("abc"))[1].usage.completion_tokens >= 1


def test_a_conversation_that_is_too_long_loses_its_oldest_turns_and_says_so():
    turns = [Message(role, f"What is {n} + 1?") for n in range(12) for role in ("user", "assistant")]
    request = ChatRequest((*turns, Message("user", "What is 2 + 3?")), options={"temperature": 0})
    with LLM.open("pocket", LoadOptions(num_ctx=128)) as llm:
        with pytest.raises(ContextExceeded):
            next(llm.chat(request))
        *_, done = llm.chat(replace(request, overflow="oldest"))
        assert isinstance(done, Done)
        assert done.truncated is not None
        assert done.truncated.messages % 2 == 0
        whole = len(llm.prompt(request).ids)
        assert done.usage.prompt_tokens == whole - done.truncated.tokens < 128


def test_the_stop_string_that_ended_a_reply_is_told():
    ask = ChatRequest((Message("user", "What is 2 + 3?"),), options={"temperature": 0, "stop": ["x", "5"]})
    with LLM.open("pocket") as llm:
        *_, done = llm.chat(ask)
        assert (done.reason, done.stop) == ("stop", "5")
        *_, done = llm.chat(replace(ask, options={"temperature": 0}))
        assert (done.reason, done.stop) == ("stop", None)
