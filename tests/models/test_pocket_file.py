"""The demo model's file: small, complete, read back exactly, and right where it was trained to be."""

import random

import gguf
import pytest
import torch
from mull.models import pocket
from mull.models.pocket.dialogues import CHAT_TEMPLATE, chat_prompt
from mull.models.pocket.evaluate import heldout_problems, solve
from mull.models.pocket.export import load_model, write_gguf
from mull.models.pocket.network import Generation, PocketConfig, PocketNetwork, generate
from mull.models.pocket.problems import KINDS, grade, make_problem
from mull.models.pocket.tokens import train_tokenizer, vocabulary

SHIPPED = pocket.model_path()


@pytest.fixture(scope="module")
def shipped():
    return load_model(SHIPPED)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(num_dialogues=800)


def tiny_network(tokenizer):
    torch.manual_seed(0)
    return PocketNetwork(PocketConfig(num_layers=1, vocab_size=tokenizer.get_vocab_size()))


def test_the_shipped_file_is_small_and_says_what_it_is():
    reader = gguf.GGUFReader(SHIPPED)
    field = {name: entry.contents() for name, entry in reader.fields.items()}
    assert SHIPPED.stat().st_size <= 5_000_000
    assert field["general.architecture"] == "qwen3"
    assert field["general.name"] == "pocket"
    assert field["general.license"] == "MIT"
    assert field["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) <= 3_000_000
    matrices = [tensor for tensor in reader.tensors if len(tensor.shape) == 2]
    assert {tensor.tensor_type for tensor in matrices} == {gguf.GGMLQuantizationType.Q8_0}
    assert all(side % 256 == 0 or side == 128 for tensor in matrices for side in tensor.shape.tolist())


def test_the_shipped_file_solves_heldout_problems_by_thinking(shipped):
    problems = heldout_problems(12, seed=7)
    thought, direct = (
        [
            grade(problem, text)
            for problem, text in zip(
                problems, solve(*shipped, [chat_prompt(p.prompt, think) for p in problems]), strict=True
            )
        ]
        for think in (True, False)
    )
    assert sum(thought) >= 0.9 * len(problems)
    assert sum(direct) <= 0.7 * len(problems)


@pytest.mark.parametrize("prompt", ["hello", "Who are you?", "Write a poem about the sea."])
def test_the_shipped_file_says_what_it_cannot_do(shipped, prompt):
    (text,) = solve(*shipped, [chat_prompt(prompt)])
    assert "pocket" in text.partition("</think>")[2]


def test_f32_reads_back_exactly(tmp_path, tokenizer):
    network = tiny_network(tokenizer)
    write_gguf(tmp_path / "m.gguf", network, tokenizer, "f32")
    again, read = load_model(tmp_path / "m.gguf")
    ids = torch.arange(16)[None]
    assert torch.equal(network.logits(network.hidden(ids)), again.logits(again.hidden(ids)))
    assert vocabulary(read) == vocabulary(tokenizer)


def test_generation_is_what_the_whole_window_predicts(tokenizer):
    network = tiny_network(tokenizer)
    prompts = [[1, 2, 3], [7, 8, 9, 10, 11, 12]]
    outputs = generate(network, prompts, Generation(frozenset(), max_tokens=6))
    for prompt, output in zip(prompts, outputs, strict=True):
        ids = torch.tensor([prompt + output])
        predicted = network.logits(network.hidden(ids))[0].argmax(-1).tolist()
        assert output == predicted[len(prompt) - 1 : -1]


def test_tokens_keep_digits_apart_and_bytes_whole(tokenizer):
    tokens, merges = vocabulary(tokenizer)
    assert len(tokens) == 512
    assert len(set(tokens)) == 512
    assert not [merge for merge in merges if any(c.isdigit() for c in merge)]
    text = "12+345 → ça va 🙂\n\n<think>\n"
    encoded = tokenizer.encode(text)
    assert encoded.tokens[:6] == ["1", "2", "+", "3", "4", "5"]
    assert "<think>" in encoded.tokens
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text


def test_every_kind_fits_a_training_row(tokenizer):
    rng = random.Random(0)
    for kind in KINDS:
        for _ in range(50):
            problem = make_problem(rng, kind)
            assert len(tokenizer.encode(chat_prompt(problem.prompt) + problem.thought).ids) < 240
