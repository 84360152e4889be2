"""Tokenizers from GGUF metadata: kinds, special tokens, what surrounds a text, and broken files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import vocabularies
from hypothesis import given
from hypothesis import strategies as st
from mull.errors import TokenizerError
from mull.models.checkpoint.pretokenizers import PRE_TOKENIZERS
from mull.runtime.tokenizer.backend import MAX_WORD
from mull.runtime.tokenizer.gguf import tokenizer_from_gguf
from vocabularies import Metadata

KINDS = [vocabularies.byte_level, vocabularies.sentencepiece, vocabularies.wordpiece]


def change(metadata: Metadata, **more: object) -> Metadata:
    """Replace some entries; None removes one."""
    changed = metadata | {f"tokenizer.ggml.{key}": value for key, value in more.items()}
    return {key: value for key, value in changed.items() if value is not None}


def test_byte_level_merges_and_special_tokens():
    subject = tokenizer_from_gguf(vocabularies.byte_level())
    assert [subject.token_text(i) for i in subject.encode("hell well")] == ["hell", "Ġw", "e", "ll"]
    assert subject.encode("<|im_end|>", parse_special=True) == [261]
    assert 261 not in subject.encode("<|im_end|>")
    assert subject.encode("a<think>b") == [97, 262, 98]
    assert subject.encode("a  \nb") == [97, 264, 98]
    assert subject.token_id("hell") == 258
    assert subject.token_id("nothing") is None
    assert (subject.bos_id, subject.eos_ids, subject.vocab_size) == (260, {261}, 265)
    assert [subject.is_special(i) for i in (97, 260, 262)] == [False, True, False]


def test_flags_put_tokens_around_a_text():
    subject = tokenizer_from_gguf(vocabularies.byte_level(add_bos_token=True, add_eos_token=True))
    assert subject.encode("a") == [260, 97, 261]
    assert subject.encode("a", special=False) == [97]
    assert subject.encode("") == [260, 261]
    assert subject.encode("", special=False) == []
    assert subject.encode("<|bos|>a<|im_end|>", parse_special=True) == [260, 97, 261]


@pytest.mark.parametrize(
    ("pre", "adds"), [("gpt-2", False), ("llama-bpe", True), ("tekken", True), ("qwen2", False)]
)
def test_the_pre_tokenizer_says_whether_a_text_begins_with_bos(pre: str, adds: bool):
    assert tokenizer_from_gguf(vocabularies.byte_level(pre)).add_bos is adds
    assert not tokenizer_from_gguf(vocabularies.byte_level(pre, add_bos_token=False)).add_bos


@pytest.mark.parametrize("pre", [name for name, rules in PRE_TOKENIZERS.items() if not rules.raw])
def test_every_pre_tokenizer_keeps_every_character(pre: str):
    subject = tokenizer_from_gguf(vocabularies.byte_level(pre))
    text = "It's WE'LL  naïve\r\n\n\t１２３ 1234567 3.14 (你好) こんにちは 한국어 สวัสดี ½ 🦙 </x>\u3000\x00 é "
    assert subject.decode(subject.encode(text, special=False)) == text


def test_a_missing_pre_tokenizer_is_the_default_one():
    with_default = tokenizer_from_gguf(vocabularies.byte_level("default"))
    without = tokenizer_from_gguf(change(vocabularies.byte_level(), pre=None))
    assert without.encode("1234567") == with_default.encode("1234567")


def test_sentencepiece_prefixes_spaces_and_falls_back_to_bytes():
    subject = tokenizer_from_gguf(vocabularies.sentencepiece())
    assert [subject.token_text(i) for i in subject.encode("hello  wé")] == ["<s>", "▁hello", "▁", "▁w", "é"]
    assert [subject.token_text(i) for i in subject.encode("世界", special=False)] == [
        "▁", "世", "<0xE7>", "<0x95>", "<0x8C>",
    ]  # fmt: skip
    assert subject.decode(subject.encode("hello 世界"), skip_special=True) == "hello 世界"
    assert subject.encode("<|user|>hello", special=False, parse_special=True) == [274, 270]
    assert subject.encode("<b>hello", special=False) == [275, 270]
    assert 1 not in subject.encode("<s>", special=False)
    assert subject.encode("<s>hello", parse_special=True) == [1, 270]
    assert subject.encode("") == [1]
    assert subject.eos_ids == {2}


def test_sentencepiece_without_prefix_or_with_collapsed_spaces():
    plain = tokenizer_from_gguf(vocabularies.sentencepiece(add_space_prefix=False, add_bos_token=False))
    assert plain.decode(plain.encode(" hello")) == " hello"
    assert plain.encode("hello") != plain.encode(" hello")
    trimmed = tokenizer_from_gguf(vocabularies.sentencepiece(remove_extra_whitespaces=True))
    assert trimmed.encode("  hello   hello ") == trimmed.encode("hello hello")
    assert trimmed.encode("   ", special=False) == []


def test_a_word_beyond_all_words_is_unknown_as_a_whole():
    subject = tokenizer_from_gguf(vocabularies.wordpiece())
    count = MAX_WORD // len("llo")
    assert len(subject.encode("hello" + "llo" * (count - 2), special=False)) == count - 1
    assert subject.encode("hello" + "llo" * count + " a", special=False) == [1, 11]


def test_wordpiece():
    subject = tokenizer_from_gguf(vocabularies.wordpiece())
    ids = subject.encode("Héllo worlds, zzz.")
    assert [subject.token_text(i) for i in ids] == [
        "[CLS]", "▁hello", "▁world", "s", "▁,", "[UNK]", "▁.", "[SEP]",
    ]  # fmt: skip
    assert subject.decode(subject.encode("hello worlds"), skip_special=True) == "hello worlds"
    assert subject.encode("[CLS]a", special=False, parse_special=True) == [2, 11]


@pytest.mark.parametrize("make", KINDS)
def test_ids_beyond_the_vocabulary_are_nothing(make):
    subject = tokenizer_from_gguf(make())
    for i in (-1, subject.vocab_size, subject.vocab_size + 1000):
        assert (subject.token_bytes(i), subject.token_text(i), subject.is_special(i)) == (b"", "", False)
    assert subject.decode([subject.vocab_size]) == ""


def test_unused_tokens_are_nothing():
    assert tokenizer_from_gguf(vocabularies.byte_level()).token_bytes(263) == b""


@pytest.mark.parametrize("make", KINDS)
def test_lone_surrogates_are_replaced(make):
    subject = tokenizer_from_gguf(make())
    assert subject.encode("a\ud800", special=False) == subject.encode("a\ufffd", special=False)


def test_threads_may_share_a_tokenizer():
    subject = tokenizer_from_gguf(vocabularies.byte_level())

    def encode(parse: bool) -> set[tuple[int, ...]]:
        return {tuple(subject.encode("<|im_end|>", parse_special=parse)) for _ in range(300)}

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(encode, [True, False, True, False]))
    assert results[0] == results[2] == {(261,)}
    assert results[1] == results[3] == {tuple(subject.encode("<|im_end|>"))}


def test_declared_and_known_names_end_a_generation():
    metadata = vocabularies.byte_level(eot_token_id=259, eom_token_id=4000)
    assert tokenizer_from_gguf(metadata).eos_ids == {259, 261}
    tokens = [*vocabularies.byte_level()["tokenizer.ggml.tokens"], "<|eot_id|>", "</s>"]
    types = [*vocabularies.byte_level()["tokenizer.ggml.token_type"], 4, 1]
    subject = tokenizer_from_gguf(change(vocabularies.byte_level(), tokens=tokens, token_type=types))
    assert subject.eos_ids == {261, 265}
    assert subject.is_special(265)
    assert 265 not in subject.encode("<|eot_id|>")


def test_harmony_ends_with_return_or_call_and_not_with_every_message():
    names = ["<|end|>", "<|return|>", "<|call|>"]
    tokens = [*vocabularies.byte_level()["tokenizer.ggml.tokens"], *names]
    types = [*vocabularies.byte_level()["tokenizer.ggml.token_type"], 3, 3, 3]
    subject = tokenizer_from_gguf(change(vocabularies.byte_level(), tokens=tokens, token_type=types))
    assert subject.eos_ids == {261, 266, 267}


@pytest.mark.parametrize("kind", ["t5", "rwkv", "plamo2", "none", "hybriddna"])
def test_unknown_kinds_are_named(kind: str):
    with pytest.raises(TokenizerError, match=kind) as caught:
        tokenizer_from_gguf(change(vocabularies.byte_level(), model=kind))
    assert "gpt2" in (caught.value.hint or "")


def test_an_unknown_pre_tokenizer_is_refused():
    with pytest.raises(TokenizerError, match="unknown pre-tokenizer 'nobody'"):
        tokenizer_from_gguf(vocabularies.byte_level("nobody"))


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        (vocabularies.byte_level, {"model": None}, "no tokenizer"),
        (vocabularies.byte_level, {"model": 7}, "not a string"),
        (vocabularies.byte_level, {"tokens": None}, "has no tokenizer.ggml.tokens"),
        (vocabularies.byte_level, {"tokens": []}, "empty"),
        (vocabularies.byte_level, {"tokens": [1, 2]}, "list of strings"),
        (vocabularies.byte_level, {"tokens": "abc"}, "not a list"),
        (vocabularies.byte_level, {"token_type": [1, 2]}, "2 entries for 265 tokens"),
        (vocabularies.byte_level, {"token_type": [-1] * 265}, "token types"),
        (vocabularies.byte_level, {"merges": None}, "has no tokenizer.ggml.merges"),
        (vocabularies.sentencepiece, {"scores": ["x"] * 276}, "list of numbers"),
        (vocabularies.wordpiece, {"unknown_token_id": None}, "no unknown token"),
    ],
)
def test_broken_metadata_is_refused(make, more: Metadata, message: str):
    with pytest.raises(TokenizerError, match=message):
        tokenizer_from_gguf(change(make(), **more))


def test_odd_metadata_still_works():
    merges = ["h e", "", "x", "he zz", "no such"]
    subject = tokenizer_from_gguf(
        change(vocabularies.byte_level(), merges=merges, token_type=None, bos_token_id=-5)
    )
    assert subject.encode("he", special=False) == [256]
    assert subject.bos_id is None
    empty = change(
        vocabularies.byte_level(), tokens=["", *vocabularies.byte_level()["tokenizer.ggml.tokens"][1:]]
    )
    assert tokenizer_from_gguf(empty).token_text(0) == "[EMPTY_0]"
    unscored = tokenizer_from_gguf(change(vocabularies.sentencepiece(), scores=None, token_type=None))
    assert unscored.decode(unscored.encode("hello 世界é"), skip_special=True) == "hello 世界é"


@pytest.mark.parametrize("make", KINDS)
@given(data=st.data())
def test_any_metadata_gives_a_tokenizer_or_our_error(make, data: st.DataObject):
    metadata = make()
    odd = st.one_of(
        st.none(), st.integers(), st.text(max_size=5), st.floats(), st.lists(st.text(max_size=6), max_size=5),
        st.lists(st.floats(), max_size=5), st.lists(st.integers(0, 9), max_size=300),
    )  # fmt: skip
    for key in data.draw(st.lists(st.sampled_from(sorted(metadata)), min_size=1, max_size=3)):
        metadata[key] = data.draw(odd)
    try:
        subject = tokenizer_from_gguf(metadata)
    except TokenizerError:
        return
    subject.decode(subject.encode("hello <s> 世界", parse_special=True))


@pytest.mark.parametrize("make", KINDS)
@given(data=st.data())
def test_stream_equals_decode(make, data: st.DataObject):
    subject = tokenizer_from_gguf(make())
    ids = data.draw(st.lists(st.integers(-1, subject.vocab_size + 2), max_size=40))
    skip = data.draw(st.booleans())
    stream = subject.stream(skip_special=skip)
    for _ in range(2):
        pieces = [stream.feed(i) for i in ids] + [stream.flush()]
        assert "".join(pieces) == subject.decode(ids, skip_special=skip)


def test_stream_holds_a_character_until_it_is_whole_or_surely_broken():
    subject = tokenizer_from_gguf(vocabularies.byte_level())
    stream = subject.stream()
    assert [stream.feed(byte) for byte in "é🦙".encode()] == ["", "é", "", "", "", "🦙"]
    assert [stream.feed(i) for i in (0xE2, 0x82, 0x61)] == ["", "", "\ufffda"]
    assert [stream.feed(0xF0), stream.feed(262), stream.feed(0xE2), stream.flush()] == [
        "",
        "\ufffd<think>",
        "",
        "\ufffd",
    ]
    skipping = subject.stream(skip_special=True)
    assert [skipping.feed(i) for i in (97, 261, 262)] == ["a", "", "<think>"]


def test_stream_drops_the_first_space_unless_it_continues_a_text():
    subject = tokenizer_from_gguf(vocabularies.sentencepiece())
    fresh, going = subject.stream(), subject.stream(continuing=True)
    assert [fresh.feed(270), fresh.feed(270)] == ["hello", " hello"]
    assert [going.feed(270), going.feed(270)] == [" hello", " hello"]
