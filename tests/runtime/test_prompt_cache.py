"""Long prompts outlive the process: what is read back is what was computed, and nothing else is taken for it."""

from __future__ import annotations

import errno
import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import folders
import pytest
import tiny
from mull.chat.message import Message
from mull.chat.request import ChatRequest
from mull.chat.stream import Done, Reasoning, Text
from mull.kernels.cpu import native
from mull.llm import LLM
from mull.runtime.block_files import BlockFiles, stamp
from mull.runtime.blocks import BlockPool
from mull.runtime.load_options import LoadOptions
from mull.settings import load_settings

BLOCK = 4
LONG = " ".join(f"What is {a} + {b}?" for a, b in zip(range(100, 190), range(300, 390), strict=True))


def chain(files: BlockFiles, tokens: list[int]) -> list[str]:
    return list(files.names(tokens, BLOCK))


def test_a_name_stands_for_all_tokens_before_it(tmp_path):
    files = BlockFiles(tmp_path, "model", 1 << 20)
    tokens = list(range(18))
    names = chain(files, tokens)
    assert len(set(names)) == len(names) == 4, "only whole blocks have names"
    assert chain(files, tokens[:8]) == names[:2]
    assert set(chain(files, [9, *tokens[1:]])).isdisjoint(names)
    assert set(chain(BlockFiles(tmp_path, "another", 1 << 20), tokens)).isdisjoint(names)


def test_a_block_comes_back_or_is_gone(tmp_path):
    files = BlockFiles(tmp_path / "p", "m", 1 << 20)
    assert files.read("ab", 5) is None
    files.write("ab", b"hello")
    assert files.read("ab", 5) == b"hello"
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "p" / "ab").stat().st_mode & 0o777 == 0o600
    assert files.read("ab", 6) is None, "a block of another size is none"
    assert not files.has("ab", 5)
    files.write("ab", b"hello")
    path = tmp_path / "p" / "ab"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert files.read("ab", 5) is None
    assert not path.exists()


def test_what_was_read_longest_ago_goes_first(tmp_path):
    files = BlockFiles(tmp_path, "m", 4 * 132)
    names = [letter * 64 for letter in "abcdef"]
    for age, name in enumerate(names):
        files.write(name, bytes(100))
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    assert files.read(names[0], 100)
    assert files.prune() == 2
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["a", "d", "e", "f"]


def test_only_blocks_are_ever_deleted(tmp_path):
    files = BlockFiles(tmp_path, "m", 0)
    files.write("a" * 64, b"hello")
    (tmp_path / f".tmp-12-34-{'b' * 64}").write_bytes(b"a killed process left it")
    (tmp_path / "notes.txt").write_text("mine")
    assert files.prune() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_block_that_was_cut_short_is_written_again(tmp_path):
    files = BlockFiles(tmp_path, "m", 1 << 20)
    files.write("ab", b"hello")
    assert files.has("ab", 5)
    os.truncate(tmp_path / "ab", 0)
    assert not files.has("ab", 5)


def test_a_damaged_block_that_cannot_be_deleted_is_none(tmp_path, monkeypatch):
    files = BlockFiles(tmp_path, "m", 1 << 20)
    (tmp_path / "ab").write_bytes(b"x")

    def unlink(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", unlink)
    assert files.read("ab", 5) is None


def test_two_threads_write_the_same_block(tmp_path, monkeypatch):
    """Two replies to one prompt end together: the second begins to write while the first has not ended."""
    files = BlockFiles(tmp_path, "m", 1 << 20)
    replace_file, others = Path.replace, [threading.Thread(target=files.write, args=("ab", b"hello"))]

    def replaced(path: Path, target: Path) -> Path:
        if others:
            other = others.pop()
            other.start()
            other.join()
        return replace_file(path, target)

    monkeypatch.setattr("pathlib.Path.replace", replaced)
    files.write("ab", b"hello")
    assert files.read("ab", 5) == b"hello"
    assert [path.name for path in tmp_path.iterdir()] == ["ab"]


def test_a_model_that_changed_is_another(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x" * 10)
    before = stamp(path)
    assert stamp(path) == before
    os.utime(path, (5, 5))
    assert stamp(path) != before
    assert stamp(tmp_path) == stamp(path)


def test_a_split_model_is_all_of_its_parts(tmp_path):
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "n-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(b"x")
    first = tmp_path / "m-00001-of-00002.gguf"
    before = stamp(first)
    assert [name for name, _, _ in before] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    os.utime(tmp_path / "m-00002-of-00002.gguf", (5, 5))
    assert stamp(first) != before


@pytest.mark.parametrize("seed", range(20))
def test_blocks_that_are_added_are_found(seed):
    rng = random.Random(seed)
    pool = BlockPool(8, BLOCK)
    tokens = [rng.randrange(3) for _ in range(40)]
    for end in range(BLOCK, 41, BLOCK):
        before = pool.find(tokens[:end])
        block = pool.add(tokens[:end])
        pool.check()
        assert pool.find(tokens[:end]) == ([*before, block] if block is not None else before)
        assert (block is None) == (end > 8 * BLOCK), "there is room for eight"
    assert pool.add(tokens[:BLOCK]) is None, "it is there already"
    assert BlockPool(8, BLOCK).add(tokens[: 2 * BLOCK]) is None, "what comes before is not there"


def turns(folder, settings, questions: list[str], **options: object) -> list[Done]:
    """Ask one question after another in a fresh process's LLM; return the ends of the replies."""
    load = LoadOptions(prompt_cache=1 << 30, deterministic=True, **options)
    messages: list[Message] = []
    found = []
    with LLM.open(folder, load, settings=settings) as llm:
        for question in questions:
            messages.append(Message("user", question))
            done = list(
                llm.chat(ChatRequest(tuple(messages), options={"temperature": 0, "num_predict": 12}))
            )[-1]
            found.append(done)
            messages.append(Message("assistant", "ok"))
    return found


@pytest.mark.parametrize("cpu", [None, "none"])
@pytest.mark.parametrize("cache_type", ["auto", "q8_0"])
def test_a_prompt_is_computed_once_for_all_processes(tmp_path, cpu, cache_type):
    if (cpu == "none" or not native.instruction_sets()) and cache_type != "auto":
        pytest.skip("torch's cache has no such type")
    settings = replace(load_settings(), cache_dir=tmp_path)
    options = {"cpu": cpu, "cache_type_k": cache_type, "cache_type_v": cache_type, "num_ctx": 2048}
    (first,) = turns("pocket", settings, [LONG], **options)
    (again,) = turns("pocket", settings, [LONG], **options)
    assert first.usage.cached_tokens == 0
    computed = again.usage.prompt_tokens - again.usage.cached_tokens
    assert 0 < computed < 0.05 * again.usage.prompt_tokens
    assert again.token_ids == first.token_ids
    (other,) = turns("pocket", settings, [LONG], **{**options, "num_ctx": 1900})
    assert other.usage.cached_tokens == 0, "another context is another cache"


def test_other_questions_share_the_beginning_only(tmp_path):
    settings = replace(load_settings(), cache_dir=tmp_path)
    (plain,) = turns("pocket", replace(settings, cache_dir=tmp_path / "empty"), [f"{LONG} And 3 + 4?"])
    turns("pocket", settings, [LONG])
    (done,) = turns("pocket", settings, [f"{LONG} And 3 + 4?"])
    assert 0.9 * done.usage.prompt_tokens < done.usage.cached_tokens < done.usage.prompt_tokens
    assert done.token_ids == plain.token_ids


def test_a_reply_that_is_stopped_leaves_its_prompt(tmp_path):
    settings = replace(load_settings(), cache_dir=tmp_path)
    request = ChatRequest((Message("user", LONG),), options={"temperature": 0})
    with LLM.open("pocket", LoadOptions(prompt_cache=1 << 30), settings=settings) as llm:
        events = llm.chat(request)
        assert any(isinstance(event, Reasoning | Text) for event in events)  # stops at the first
        events.close()
    (done,) = turns("pocket", settings, [LONG], num_ctx=None)
    assert done.usage.cached_tokens == 0, "another way to compute is another cache"
    with LLM.open("pocket", LoadOptions(prompt_cache=1 << 30), settings=settings) as llm:
        done = list(llm.chat(request))[-1]
    assert done.usage.cached_tokens > 0.9 * done.usage.prompt_tokens


def test_a_disk_that_cannot_be_written_costs_the_cache_alone(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    (done,) = turns("pocket", replace(load_settings(), cache_dir=blocked), [LONG])
    assert done.usage.cached_tokens == 0
    assert "cannot be written" in caplog.text


def test_random_models_give_the_same_with_blocks_from_disk(tmp_path):
    for name in ("llama", "gemma3"):
        folder = tiny.write_gguf(tiny.build(name), name, tmp_path / f"{name}.gguf")
        settings = replace(load_settings(), cache_dir=tmp_path / "cache")
        prompt = list(range(5, 105))
        answers = []
        for _ in range(2):
            with LLM.open(
                str(folder), LoadOptions(prompt_cache=1 << 30, deterministic=True), settings=settings
            ) as llm:
                request = ChatRequest(
                    raw="", context=tuple(prompt), options={"temperature": 0, "num_predict": 8}
                )
                answers.append(list(llm.chat(request))[-1])
        assert answers[0].token_ids == answers[1].token_ids
        assert answers[1].usage.cached_tokens >= 80


def test_a_model_quantized_as_it_is_loaded_has_blocks_of_its_own(tmp_path):
    tiny.save("llama", tmp_path / "model")
    folders.add_tokenizer(tmp_path / "model")
    settings = replace(load_settings(), cache_dir=tmp_path / "cache")
    cached = []
    for quantize in (None, "q4_0", "q4_0", None):
        load = LoadOptions(prompt_cache=1 << 30, deterministic=True, quantize=quantize)
        with LLM.open(str(tmp_path / "model"), load, settings=settings) as llm:
            request = ChatRequest(
                raw="", context=tuple(range(5, 105)), options={"temperature": 0, "num_predict": 2}
            )
            cached.append(list(llm.chat(request))[-1].usage.cached_tokens)
    assert (cached[:2], cached[2] >= 80, cached[3] >= 80) == ([0, 0], True, True)
