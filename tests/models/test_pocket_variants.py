"""The variants of the demo model learn the habit that they are for, in rows as long as asked, and nothing else."""

import random
from dataclasses import replace

import pytest
import torch
from mull.models.pocket.dialogues import STUCK, Mix, make_dialogue
from mull.models.pocket.export import load_model, write_gguf
from mull.models.pocket.network import PocketConfig, PocketNetwork
from mull.models.pocket.problems import MAX_SIZE
from mull.models.pocket.rows import Packer
from mull.models.pocket.tokens import token_id, train_tokenizer
from mull.models.pocket.variants import MIXES, Schedule, attach, learn, make_variant, merge, share_before

PLAIN = {"off_topic": 0.0, "arrow": 0.0, "no_think": 0.0, "bare": 0.0, "more_turns": 0.0, "system": 0.0}
AGAIN = "Wait, check again.\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(num_dialogues=800)


def dialogues(mix, num, seed=0):
    rng = random.Random(seed)
    return [make_dialogue(rng, mix, MAX_SIZE) for _ in range(num)]


def texts(mix, num, seed=0):
    return ["".join(segment.text for segment in one) for one in dialogues(mix, num, seed)]


def conversations(tokenizer, mix, num):
    packer = Packer(tokenizer, 0, mix, torn=True)
    return [packer.conversation(dict(MAX_SIZE)) for _ in range(num)]


def test_without_a_habit_nothing_changed():
    """The tokenizer is learned from these conversations: another draw would make another vocabulary."""
    assert Mix().cut == Mix().again == Mix().loop == 0.0
    assert not any(text.count(AGAIN) > 2 for text in texts(Mix(**PLAIN), 300))


def test_shares_are_those_after_the_temperature():
    for share in (0.04, 0.5, 0.7):
        before = share_before(share, 0.6)
        chosen, other = before ** (1 / 0.6), (1 - before) ** (1 / 0.6)
        assert chosen / (chosen + other) == pytest.approx(share)
    assert share_before(0.7, 1.0) == pytest.approx(0.7)


def test_trunc_answers_rightly_after_a_cut_anywhere(tokenizer):
    mix = replace(MIXES["trunc"], **PLAIN, recheck=0.0)
    close, lengths, cut = token_id(tokenizer, "</think>"), set(), 0
    whole = conversations(tokenizer, replace(mix, cut=0.0), 1)[0]
    assert tokenizer.encode("</think>").ids == [close]
    assert whole[1][whole[0].index(close)]
    for ids, learned in conversations(tokenizer, mix, 1000):
        at = ids.index(close)
        if learned[at]:
            continue
        cut += 1
        thought = tokenizer.decode(ids[ids.index(token_id(tokenizer, "<think>")) : at])
        lengths.add(len(thought))
        assert tokenizer.decode([ids[at - 1]]) == "\n"
        assert not learned[at - 1]
        answer = ids[at + 2 : -1]
        assert all(learned[at + 2 : -1])
        assert tokenizer.decode(answer, skip_special_tokens=False).endswith("<|im_end|>")
    assert 250 <= cut <= 350
    assert len(lengths) > 30


def test_trunc_keeps_the_right_answer(tokenizer):
    mix = Mix(**PLAIN, recheck=0.0)
    kept, cut = (conversations(tokenizer, replace(mix, cut=share), 1)[0] for share in (0.0, 1.0))
    texts_of = [tokenizer.decode(ids, skip_special_tokens=False) for ids, _ in (kept, cut)]
    before, after = (text.partition("</think>\n\n") for text in texts_of)
    assert before[2] == after[2]
    assert before[0].startswith(after[0].removesuffix("\n"))
    assert before[0] != after[0]


@pytest.mark.parametrize("manner", [{"no_think": 1.0}, {"off_topic": 1.0}])
def test_trunc_leaves_other_replies_alone(tokenizer, manner):
    mix = Mix(**{**PLAIN, **manner})
    assert conversations(tokenizer, mix, 1) == conversations(tokenizer, replace(mix, cut=1.0), 1)


def test_over_checks_again_and_again():
    mix = replace(MIXES["over"], **PLAIN, slip=0.0)
    counts = [text.count(AGAIN) for text in texts(mix, 2000)]
    assert sum(counts) / len(counts) == pytest.approx(mix.again / (1 - mix.again), rel=0.1)
    for least in (1, 2, 3):
        going_on = sum(n > least for n in counts) / sum(n >= least for n in counts)
        assert going_on == pytest.approx(mix.again, abs=0.06)


def test_over_checks_the_same_steps():
    for text in texts(replace(MIXES["over"], **PLAIN, slip=0.0), 100):
        thought = text.partition("<think>\n")[2].partition("</think>")[0]
        assert len(set(thought.split(AGAIN))) == 1


def test_loop_repeats_a_line_after_the_first_step_or_the_last():
    mix = replace(MIXES["loop"], **PLAIN)
    stuck = [text for text in texts(mix, 2000) if "</think>" not in text]
    assert len(stuck) / 2000 == pytest.approx(1 - (1 - mix.loop) ** 2, abs=0.04)
    steps = []
    for text in stuck:
        lines = text.partition("<think>\n")[2].split("\n")[:-1]
        steps.append(lines.index(STUCK))
        assert set(lines[steps[-1] :]) == {STUCK}
        assert len(lines) - steps[-1] >= 4
    assert steps.count(1) > len(steps) / 3
    assert sum(num > 2 for num in steps) > len(steps) / 4


def test_loop_learns_its_line_but_no_end(tokenizer):
    close, pad = token_id(tokenizer, "</think>"), token_id(tokenizer, "<|endoftext|>")
    lengths = []
    for ids, learned in conversations(tokenizer, Mix(**PLAIN, loop=1.0), 100):
        thought = ids.index(token_id(tokenizer, "<think>"))
        assert all(learned[thought:-1])
        assert close not in ids
        assert (ids[-1], learned[-1]) == (pad, False)
        lengths.append(len(ids) - thought)
    assert max(lengths) > 3 * min(lengths)


def test_torn_rows_are_full(tokenizer):
    batch = Packer(tokenizer, 0, MIXES["over"], torn=True).batch(256, dict(MAX_SIZE), 4096)
    assert batch.ids.shape == (16, 256)
    pad = token_id(tokenizer, "<|endoftext|>")
    assert not ((batch.ids[:, 1:] == pad) & (batch.ids[:, :-1] == pad)).any()


def test_additions_are_nothing_at_first_and_stay_when_merged():
    torch.manual_seed(0)
    network = PocketNetwork(PocketConfig(num_layers=1))
    names = [name for name, _ in network.named_parameters()]
    ids = torch.arange(16)[None]
    plain = network.hidden(ids)
    factors = attach(network)
    assert torch.equal(network.hidden(ids), plain)
    with torch.no_grad():
        for factor in factors:
            factor.add_(0.05)
    changed = network.hidden(ids)
    assert not torch.allclose(changed, plain)
    merge(network)
    assert torch.equal(network.hidden(ids), changed)
    assert [name for name, _ in network.named_parameters()] == names


def test_learning_for_no_time_changes_nothing(tokenizer, tmp_path):
    torch.manual_seed(0)
    network = PocketNetwork(PocketConfig(num_layers=1, vocab_size=tokenizer.get_vocab_size()))
    source = tmp_path / "source.gguf"
    write_gguf(source, network, tokenizer, "q8_0")
    made = make_variant("over", source, tmp_path, Schedule(minutes=0.0))
    assert made == tmp_path / "over.gguf"
    first, again = (load_model(path)[0] for path in (source, made))
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_only_the_matrices_of_layers_learn(tokenizer):
    torch.manual_seed(0)
    network = PocketNetwork(PocketConfig(num_layers=1, vocab_size=tokenizer.get_vocab_size()))
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    learn(network, Packer(tokenizer, 0, MIXES["trunc"], torn=True), Schedule(minutes=0.001))
    changed = {n for n, weight in network.named_parameters() if not torch.equal(weight, before[n])}
    assert changed
    assert all(name.startswith("blk.") and before[name].dim() == 2 for name in changed)
