"""Tokenizers of folders become GGUF vocabularies that give the same ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folders
import pytest
import vocabularies
from mull.errors import TokenizerError
from mull.models.checkpoint.open import open_checkpoint
from mull.models.checkpoint.pretokenizers import PRE_TOKENIZERS
from mull.models.checkpoint.token_types import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from mull.models.convert import splitting
from mull.models.convert.special import end_keys, read_state, special_keys, template_keys
from mull.models.convert.splitting import pre_name
from mull.models.convert.vocabulary import Tokens, read_tokens, token_keys
from mull.runtime.tokenizer.gguf import tokenizer_from_gguf
from mull.runtime.tokenizer.huggingface import tokenizer_from_folder

Metadata = dict[str, Any]

LLAMA3 = folders.WORDS[:-6] + r"|\p{N}{1,3}" + folders.AFTER
QWEN2 = folders.WORDS + folders.AFTER
# How the folders of these models cut text, and what GGUF calls it.
PUBLISHED: dict[str, tuple[str, folders.Json, folders.Json]] = {
    "llama-bpe": ("llama-bpe", folders.split(LLAMA3), {"model": {"ignore_merges": True}}),
    "qwen2": ("qwen2", folders.split(QWEN2), {"normalizer": {"type": "NFC"}}),
    "gpt-2": ("gpt-2", folders.byte_level(), {}),
    "mpt": ("gpt-2", folders.byte_level(), {}),
    "starcoder": ("starcoder", folders.digits(), {}),
    "command-r": ("starcoder", folders.digits(), {"normalizer": {"type": "NFC"}}),
}


def read(folder: Path, size: int) -> Metadata:
    """Return the tokenizer's keys as plain values."""
    state, config = read_state(folder)
    tokens = read_tokens(folder, state, config, size)
    keys = token_keys(tokens) | special_keys(tokens, state, config, {})
    return {key: value.value for key, value in keys.items()}


def write_json(folder: Path, state: Mapping[str, object], **config: object) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(state))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def published(shared_data: Path, name: str) -> tuple[Metadata, list[tuple[str, list[int]]]]:
    """Return a real vocabulary, and texts with the ids that llama.cpp expects of it."""
    path = shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text("utf-8").split("\n")
    with open_checkpoint(path) as checkpoint:
        return dict(checkpoint.metadata), [
            (text, [int(i) for i in line.split()]) for text, line in zip(texts, lines, strict=True)
        ]


def check_golden(metadata: Metadata, cases: list[tuple[str, list[int]]]) -> None:
    tokenizer = tokenizer_from_gguf(metadata)
    assert len(cases) > 40
    for text, ids in cases:
        assert tokenizer.encode(text, special=False) == ids, repr(text)


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_byte_level_vocabularies(name: str, tmp_path: Path, shared_data: Path):
    original, cases = published(shared_data, name)
    pre, cut, more = PUBLISHED[name]
    write_json(tmp_path, folders.json_of(original, pre_tokenizer=cut, **more))
    made = read(tmp_path, len(original["tokenizer.ggml.tokens"]))
    assert made["tokenizer.ggml.pre"] == pre
    assert made["tokenizer.ggml.tokens"] == list(original["tokenizer.ggml.tokens"])
    assert made["tokenizer.ggml.merges"] == list(original["tokenizer.ggml.merges"])
    check_golden(made, cases)


def test_rules_that_cut_otherwise_but_give_the_same_ids(tmp_path: Path, shared_data: Path):
    original, cases = published(shared_data, "deepseek-llm")
    cuts = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in PRE_TOKENIZERS["deepseek-llm"].regexes[:-1]
    ]
    steps = [*cuts, {"type": "Digits", "individual_digits": True}, folders.byte_level(use_regex=False)]
    cut = {"type": "Sequence", "pretokenizers": steps}
    write_json(tmp_path, folders.json_of(original, pre_tokenizer=cut))
    made = read(tmp_path, len(original["tokenizer.ggml.tokens"]))
    assert made["tokenizer.ggml.pre"] == "deepseek-llm"
    check_golden(made, cases)


@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
@pytest.mark.parametrize("form", ["tokenizer.model", "tokenizer.json"])
def test_real_sentencepiece_vocabularies(name: str, form: str, tmp_path: Path, shared_data: Path):
    original, cases = published(shared_data, name)
    if form == "tokenizer.model":
        (tmp_path / form).write_bytes(folders.proto_of(original))
    else:
        write_json(tmp_path, folders.pieces_json_of(original))
    made = read(tmp_path, len(original["tokenizer.ggml.tokens"]))
    assert (made["tokenizer.ggml.model"], made["tokenizer.ggml.pre"]) == ("llama", "default")
    if form == "tokenizer.model":
        assert made["tokenizer.ggml.scores"] == list(original["tokenizer.ggml.scores"])
        assert made["tokenizer.ggml.token_type"] == list(original["tokenizer.ggml.token_type"])
    check_golden(made | {"general.name": name}, cases)


def byte_level_state(**parts: Any) -> folders.Json:
    """Return a small tokenizer.json without gaps, as all real ones are."""
    metadata = vocabularies.byte_level()
    for key in ("tokens", "token_type"):
        metadata[f"tokenizer.ggml.{key}"] = metadata[f"tokenizer.ggml.{key}"][:263]
    return folders.json_of(metadata, **parts)


def test_the_same_ids_as_from_the_folder(tmp_path: Path):
    write_json(
        tmp_path, byte_level_state(post_processor=folders.template("<|bos|>", 260)), bos_token="<|bos|>"
    )
    ours, theirs = tokenizer_from_gguf(read(tmp_path, 270)), tokenizer_from_folder(tmp_path)
    for text in ("hell well", "<think>he<|im_end|>", "  \n x", "Größe 世界"):
        for special in (True, False):
            assert ours.encode(text, special=special, parse_special=True) == theirs.encode(
                text, special=special, parse_special=True
            )
    assert ours.add_bos


def test_every_rule_set_leaves_marks_of_its_own():
    cuts: dict[object, set[tuple[str, ...]]] = {}
    for rules in PRE_TOKENIZERS.values():
        cuts.setdefault(splitting._cuts(splitting._sequence(rules)), set()).add(rules.regexes)
    alike = [found for found in cuts.values() if len(found) > 1]
    # BailingMoE's expression is Qwen 2's, written otherwise
    assert alike == [{PRE_TOKENIZERS["qwen2"].regexes, PRE_TOKENIZERS["bailingmoe"].regexes}]


@pytest.mark.parametrize(
    "name", ["llama-bpe", "gpt-2", "qwen2", "tekken", "gpt-4o", "dbrx", "deepseek-v3", "kimi-k2"]
)
def test_rules_are_recognised(name: str):
    rules = PRE_TOKENIZERS[name]
    steps = [folders.split(regex)["pretokenizers"][0] for regex in rules.regexes]
    cut = {"type": "Sequence", "pretokenizers": [*steps, folders.byte_level(use_regex=False)]}
    found = pre_name(byte_level_state(pre_tokenizer=cut, model={"ignore_merges": rules.whole_words}))
    assert PRE_TOKENIZERS[found].regexes == rules.regexes
    assert PRE_TOKENIZERS[found].whole_words == rules.whole_words


def test_unknown_rules_are_refused():
    state = byte_level_state(pre_tokenizer=folders.split("[aeiou]|he|ell"))
    with pytest.raises(TokenizerError, match="no GGUF file can name"):
        pre_name(state)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"pre_tokenizer": {**folders.byte_level(), "add_prefix_space": True}}, "a space before every text"),
        ({"model": {"type": "Unigram"}}, "Unigram"),
        ({"model": {"merges": [["h"]]}}, "not of two tokens"),
        ({"model": {"vocab": {"a": -1}}}, "without a usable id"),
        ({"model": {"vocab": []}}, "no vocabulary"),
        ({"pre_tokenizer": {"type": "Nonsense"}}, "tokenizer is broken|decodes|cuts"),
    ],
)
def test_what_gguf_cannot_say_is_refused(parts: folders.Json, message: str, tmp_path: Path):
    write_json(tmp_path, byte_level_state(**parts))
    with pytest.raises(TokenizerError, match=message):
        read(tmp_path, 270)


def test_merges_that_are_not_sentencepieces_are_refused(tmp_path: Path):
    state = folders.pieces_json_of(vocabularies.sentencepiece())
    merges = state["model"]["merges"]
    write_json(tmp_path, state)
    assert read(tmp_path, 300)["tokenizer.ggml.model"] == "llama"
    twice = [*merges, merges[0]]
    for broken in (merges[:-1], twice):
        write_json(tmp_path, {**state, "model": {**state["model"], "merges": broken}})
        with pytest.raises(TokenizerError, match="in an order that scores"):
            read(tmp_path, 300)


def test_types_of_added_tokens_and_gaps(tmp_path: Path):
    extra = [
        folders.added(4, "<tool>", special=False),
        folders.added(5, "<|turn|>", special=False),
        folders.added(6, "</s>"),
        folders.added(99, "<image>"),
    ]
    state = folders.tokenizer_json({"a": 0, "b": 1, "Ġ": 2}, [], added_tokens=extra)
    made = read(write_json(tmp_path, state, eos_token="</s>"), 8)
    assert made["tokenizer.ggml.tokens"] == ["a", "b", "Ġ", "[PAD3]", "<tool>", "<|turn|>", "</s>", "[PAD7]"]
    expected = [NORMAL, NORMAL, NORMAL, UNUSED, USER_DEFINED, CONTROL, CONTROL, UNUSED]
    assert made["tokenizer.ggml.token_type"] == expected
    assert made["tokenizer.ggml.eos_token_id"] == 6


def test_sentencepiece_with_added_tokens(tmp_path: Path):
    original = vocabularies.sentencepiece()
    (tmp_path / "tokenizer.model").write_bytes(folders.proto_of(original, skipped=2))
    size = len(original["tokenizer.ggml.tokens"])
    listed = {
        "0": {"content": "<unk>", "special": True},
        str(size - 2): {"content": "<|user|>", "special": True},
        str(size - 1): {"content": "▁▁▁", "special": False},
    }
    config = {"added_tokens_decoder": listed, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    made = read(tmp_path, size + 1)
    assert made["tokenizer.ggml.tokens"][-3:] == ["<|user|>", "   ", f"[PAD{size}]"]
    assert made["tokenizer.ggml.token_type"][-3:] == [CONTROL, USER_DEFINED, UNUSED]
    assert made["tokenizer.ggml.token_type"][0] == UNKNOWN
    flags = {
        key: made[f"tokenizer.ggml.{key}"] for key in ("add_bos_token", "add_eos_token", "add_space_prefix")
    }
    assert flags == {"add_bos_token": True, "add_eos_token": False, "add_space_prefix": True}
    assert (made["tokenizer.ggml.bos_token_id"], made["tokenizer.ggml.eos_token_id"]) == (1, 2)


def test_a_tokenizer_json_that_has_grown_beyond_its_model(tmp_path: Path):
    original = vocabularies.sentencepiece()
    (tmp_path / "tokenizer.model").write_bytes(folders.proto_of(original, skipped=3))
    write_json(tmp_path, folders.pieces_json_of(original))
    assert "世" in read(tmp_path, 300)["tokenizer.ggml.tokens"]


def test_merges_with_spaces_and_in_either_form(tmp_path: Path):
    vocab = {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġa": 4}
    for merges in (["a b", "Ġ a"], [["a", "b"], ["Ġ", "a"]], [["a", "b"], [" ", "a"]]):
        write_json(
            tmp_path, {**folders.tokenizer_json(vocab, []), "model": {"vocab": vocab, "merges": merges}}
        )
        assert read(tmp_path, 5)["tokenizer.ggml.merges"] == ["a b", "Ġ a"]


def test_what_stands_before_every_text(tmp_path: Path):
    state = byte_level_state(post_processor=folders.template("<|bos|>", 260))
    made = read(write_json(tmp_path, state), 270)
    assert (made["tokenizer.ggml.add_bos_token"], made["tokenizer.ggml.bos_token_id"]) == (True, 260)
    made = read(write_json(tmp_path, byte_level_state(), bos_token="<|bos|>"), 270)
    assert (made["tokenizer.ggml.add_bos_token"], made["tokenizer.ggml.bos_token_id"]) == (False, 260)
    made = read(write_json(tmp_path, byte_level_state(), bos_token="<|bos|>", add_bos_token=True), 270)
    assert made["tokenizer.ggml.add_bos_token"] is True
    with pytest.raises(TokenizerError, match=r"puts <\|bos\|> around every text"):
        read(write_json(tmp_path, state, bos_token="<think>"), 270)


def test_ends_that_no_name_tells():
    tokens = Tokens("gpt2", ["a", "</s>", "<|im_end|>", "<stop>", "<halt>"], bytearray(5), [])
    assert end_keys(tokens, [1, 2], 1) == {}
    found = {key: value.value for key, value in end_keys(tokens, [1, 2, 3, 3, 4, 9], 1).items()}
    assert found == {"tokenizer.ggml.eot_token_id": 3, "tokenizer.ggml.eom_token_id": 4}


def test_named_templates(tmp_path: Path):
    assert template_keys(tmp_path, None, {}) == {}
    config = {"chat_template": [{"name": "default", "template": "D"}, {"name": "tool-use", "template": "T"}]}
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("R")
    found = {key: value.value for key, value in template_keys(tmp_path, "D", config).items()}
    assert found == {
        "tokenizer.chat_template": "D",
        "tokenizer.chat_template.tool_use": "T",
        "tokenizer.chat_template.rag": "R",
        "tokenizer.chat_templates": ["rag", "tool_use"],
    }
