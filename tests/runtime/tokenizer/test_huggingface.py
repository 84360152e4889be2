"""Tokenizers from Hugging Face folders, compared with transformers and sentencepiece on the same files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import vocabularies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mull.errors import TokenizerError
from mull.runtime.tokenizer.gguf import tokenizer_from_gguf
from mull.runtime.tokenizer.huggingface import tokenizer_from_folder
from mull.runtime.tokenizer.load import load_tokenizer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "we'll see, won't we?  two  spaces",
    "naïve 你好 🦙 1234",
] * 3
TEXTS = [
    "the quick\nfox",
    "",
    " ",
    "  two  spaces ",
    "naïve 你好 🦙",
    "<|im_end|> the <think>x</think>",
    "\t\n12",
    "��",
]
QUICK = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def byte_level(*, template: bool) -> Tokenizer:
    """Train a byte-level BPE with chat markup."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens(["<|bos|>", "<|im_end|>"])
    backend.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    if template:
        bos = backend.token_to_id("<|bos|>")
        backend.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", bos)]
        )
    return backend


def metaspace() -> Tokenizer:
    """Train a BPE of Llama's make: ▁ for spaces, byte tokens for what is not in the vocabulary."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    backend.train_from_iterator(CORPUS[:2], trainer)
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]
    return Tokenizer.from_str(json.dumps(state))


def save(folder: Path, backend: Tokenizer, config: dict[str, object] | None = None) -> Path:
    """Write the files of a model folder."""
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config or {}))
    return folder


@pytest.mark.parametrize("template", [True, False])
def test_byte_level_equals_transformers(tmp_path: Path, template: bool):
    from transformers import PreTrainedTokenizerFast

    config = {"bos_token": "<|bos|>", "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    subject = tokenizer_from_folder(save(tmp_path, byte_level(template=template), config))
    reference = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = reference.encode(text)
        assert subject.encode(text, parse_special=True) == ids
        assert subject.encode(text, special=False, parse_special=True) == reference.encode(
            text, add_special_tokens=False
        )
        assert subject.encode(text, special=False) == reference.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        assert subject.decode(ids, skip_special=True) == reference.decode(ids, skip_special_tokens=True)
        assert subject.decode(ids) == reference.decode(ids)
    assert subject.add_bos is template
    assert subject.bos_id == reference.bos_token_id
    assert subject.eos_ids == {reference.eos_token_id}
    assert subject.vocab_size == len(reference)


def test_metaspace_equals_the_library(tmp_path: Path):
    backend = metaspace()
    subject = tokenizer_from_folder(save(tmp_path, backend, {"bos_token": "<s>", "eos_token": "</s>"}))
    for text in TEXTS:
        ids = backend.encode(text).ids
        assert subject.encode(text, parse_special=True) == ids
        assert subject.decode(ids) == backend.decode(ids, skip_special_tokens=False)
    assert subject.token_bytes(3 + 0x0A) == b"\n"
    assert subject.eos_ids == {2}
    assert not subject.add_bos


def test_switches_count_where_the_file_has_no_template(tmp_path: Path):
    config: dict[str, object] = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    folder = save(tmp_path, metaspace(), config | {"add_bos_token": True, "add_eos_token": True})
    subject = tokenizer_from_folder(folder)
    assert (subject.add_bos, subject.add_eos) == (True, True)
    assert subject.encode("") == [1, 2]
    templated = tokenizer_from_folder(save(tmp_path, byte_level(template=True), {"add_bos_token": False}))
    assert templated.add_bos
    assert templated.bos_id == templated.token_id("<|bos|>")


def test_tokens_that_only_the_config_lists_are_added(tmp_path: Path):
    backend = byte_level(template=False)
    size = backend.get_vocab_size()
    listed = {str(size): {"content": "<|extra|>", "special": True}, str(size + 1): {"content": "<tool>"}}
    subject = tokenizer_from_folder(save(tmp_path, backend, {"added_tokens_decoder": listed}))
    assert subject.encode("<|extra|><tool>", parse_special=True) == [size, size + 1]
    assert subject.is_special(size)
    assert subject.encode("<|extra|><tool>", special=False)[-1] == size + 1


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path: Path):
    backend = byte_level(template=False)
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    subject = tokenizer_from_folder(save(tmp_path, backend))
    assert subject.decode(subject.encode("the quick brown fox jumps")) == "the quick brown fox jumps"


class FolderCheckpoint:
    """What load_tokenizer needs of a checkpoint."""

    format = "safetensors"

    def __init__(self, path: Path, generation: dict[str, object], config: dict[str, object]):
        self.path, self.generation, self.config = path, generation, config


@pytest.mark.parametrize("ends", [[5, 6, 10_000], 5, None])
def test_end_ids_come_from_every_file(tmp_path: Path, ends: object):
    folder = save(tmp_path, byte_level(template=False))
    checkpoint = FolderCheckpoint(folder, {"eos_token_id": ends}, {"eos_token_id": 7})
    subject = load_tokenizer(checkpoint)
    declared = {5, 6} if isinstance(ends, list) else {5} if ends else set()
    assert subject.eos_ids == {*declared, 7, subject.token_id("<|im_end|>")}


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory: pytest.TempPathFactory):
    return tokenizer_from_folder(save(tmp_path_factory.mktemp("model"), metaspace()))


@given(data=st.data())
def test_stream_equals_decode(byte_fallback, data: st.DataObject):
    ids = data.draw(st.lists(st.integers(0, byte_fallback.vocab_size), max_size=30))
    stream = byte_fallback.stream()
    assert "".join([stream.feed(i) for i in ids] + [stream.flush()]) == byte_fallback.decode(ids)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model": {"type": "Nothing"}}', '{"version": 1}'])
def test_a_broken_file_is_our_error(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match="broken"):
        tokenizer_from_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content)


def test_a_broken_config_or_an_empty_folder_is_our_error(tmp_path: Path):
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        tokenizer_from_folder(tmp_path)
    save(tmp_path, metaspace())
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        tokenizer_from_folder(tmp_path)


def test_an_impossible_id_costs_no_memory(tmp_path: Path):
    save(tmp_path, metaspace())
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    described["model"]["vocab"]["zzz"] = 200_000_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(TokenizerError, match="impossible id 200000000"):
        tokenizer_from_folder(tmp_path)


def test_an_unknown_decoder_is_named(tmp_path: Path):
    backend = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.decoder = decoders.BPEDecoder()
    with pytest.raises(TokenizerError, match="BPEDecoder"):
        tokenizer_from_folder(save(tmp_path, backend))


# SentencePiece's tokenizer.model, written by hand


def varint(value: int) -> bytes:
    """Encode a number as protocol buffers do."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def entry(number: int, value: int | float | bytes) -> bytes:
    """Encode one field of a message."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def model_proto(*, kind: int = 2, collapse: bool = False, prefix: bool = True) -> bytes:
    """Encode the vocabulary of `vocabularies.sentencepiece` as a tokenizer.model."""
    metadata = vocabularies.sentencepiece()
    columns = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    pieces = b"".join(
        entry(1, entry(1, text.encode()) + entry(2, float(score)) + entry(3, kind))
        for text, score, kind in zip(*columns, strict=True)
    )
    trainer = entry(3, kind) + entry(35, 1) + entry(40, 0) + entry(41, 1) + entry(42, 2) + entry(43, -1)
    normalizer = entry(1, b"identity") + entry(3, int(prefix)) + entry(4, int(collapse))
    return pieces + entry(2, trainer) + entry(3, normalizer)


SPM_TEXTS = ["hello", "  hello  w", "", "hé世界\n", "llllo hello", "▁", "h e l l o   ", "wwww wé  he"]


def test_tokenizer_model_equals_the_gguf_of_it(tmp_path: Path):
    (tmp_path / "tokenizer.model").write_bytes(model_proto())
    subject = tokenizer_from_folder(tmp_path, [300, 275])
    reference = tokenizer_from_gguf(vocabularies.sentencepiece())
    for text in [*SPM_TEXTS, "<s>hello<|user|>h", "<b>hello"]:
        for parse in (False, True):
            ids = subject.encode(text, parse_special=parse)
            assert ids == reference.encode(text, parse_special=parse)
            assert subject.decode(ids) == reference.decode(ids)
    assert subject.eos_ids == {2, 275}


@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_tokenizer_model_equals_sentencepiece(tmp_path: Path, collapse: bool, prefix: bool):
    sentencepiece = pytest.importorskip("sentencepiece")
    data = model_proto(collapse=collapse, prefix=prefix)
    (tmp_path / "tokenizer.model").write_bytes(data)
    subject = tokenizer_from_folder(tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in SPM_TEXTS:
        ids = reference.encode(text)
        assert subject.encode(text, special=False) == ids, text
        assert subject.decode(ids) == reference.decode(ids), text


def test_tokenizer_model_with_the_config_beside_it(tmp_path: Path):
    (tmp_path / "tokenizer.model").write_bytes(model_proto())
    listed = {
        "278": {"content": "<|im_end|>", "special": True, "rstrip": True},
        "274": {"content": "<|user|>"},
    }
    config = {"added_tokens_decoder": listed, "add_bos_token": False, "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").write_text('{"<tool>": 276}')
    subject = tokenizer_from_folder(tmp_path)
    assert subject.vocab_size == 279
    assert subject.encode("<|im_end|>\nhello", parse_special=True) == [278, 270]
    assert subject.encode("<tool><|user|>") == [276, 274]
    assert subject.token_bytes(277) == b""
    assert 278 in subject.eos_ids
    assert not subject.add_bos


def test_other_types_of_tokenizer_model_are_refused(tmp_path: Path):
    (tmp_path / "tokenizer.model").write_bytes(model_proto(kind=1))
    with pytest.raises(TokenizerError, match="BPE"):
        tokenizer_from_folder(tmp_path)


@QUICK
@given(cut=st.integers(0, 3000), flip=st.integers(0, 255))
def test_a_damaged_tokenizer_model_is_our_error_or_works(tmp_path: Path, cut: int, flip: int):
    data = model_proto()
    damaged = data[:cut] + bytes([flip]) + data[cut + 1 : cut + 1500]
    (tmp_path / "tokenizer.model").write_bytes(damaged)
    try:
        tokenizer_from_folder(tmp_path).encode("hello")
    except TokenizerError:
        return


@pytest.mark.parametrize("data", [b"", b"IQ== 0\nIg== 1\n", b"\x0a\xff", b"version https://git-lfs"])
def test_what_is_no_sentencepiece_model_is_our_error(tmp_path: Path, data: bytes):
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(TokenizerError, match="no SentencePiece model"):
        tokenizer_from_folder(tmp_path)
