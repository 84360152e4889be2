"""How many held-out problems "pocket" solves, with its thought and without."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from .dialogues import chat_prompt
from .network import Generation, PocketNetwork, generate
from .problems import KINDS, MAX_SIZE, Kind, Problem, grade, make_problem
from .tokens import token_id


@dataclass(frozen=True, slots=True)
class Score:
    """How many problems of one kind and range of sizes were solved, in one way of answering."""

    kind: Kind
    sizes: tuple[int, int]
    manner: str
    solved: int
    total: int


def heldout_problems(num_per_kind: int, seed: int = 0) -> list[Problem]:
    """Draw held-out problems, all sizes alike."""
    rng = random.Random(f"heldout {seed}")
    return [
        make_problem(rng, kind, 1 + i % MAX_SIZE[kind], "heldout")
        for kind in KINDS
        for i in range(num_per_kind)
    ]


def evaluate(
    network: PocketNetwork, tokenizer: Tokenizer, num_per_kind: int = 100, seed: int = 0
) -> list[Score]:
    """Solve held-out problems greedily with a thought, at temperature 0.6 with a thought, and without one."""
    problems = heldout_problems(num_per_kind, seed)
    manners = (("thinking", True, 0.0), ("thinking, T=0.6", True, 0.6), ("no thinking", False, 0.0))
    scores = []
    for manner, think, temperature in manners:
        texts = solve(network, tokenizer, [chat_prompt(p.prompt, think) for p in problems], temperature)
        solved = [grade(problem, text) for problem, text in zip(problems, texts, strict=True)]
        scores += _tally(manner, problems, solved)
    return scores


def solve(
    network: PocketNetwork, tokenizer: Tokenizer, prompts: Sequence[str], temperature: float = 0.0
) -> list[str]:
    """Give the model's text after each prompt."""
    eos = frozenset(token_id(tokenizer, text) for text in ("<|im_end|>", "<|endoftext|>"))
    how = Generation(eos, max_tokens=400, temperature=temperature)
    outputs = generate(network, [tokenizer.encode(prompt).ids for prompt in prompts], how)
    return [tokenizer.decode(ids, skip_special_tokens=False) for ids in outputs]


def format_table(scores: Sequence[Score]) -> str:
    """Lay the scores out: a line per kind and range of sizes, a column per manner."""
    manners = list(dict.fromkeys(score.manner for score in scores))
    lines = ["kind   sizes " + "".join(f"{manner:>18}" for manner in manners)]
    for kind, sizes in dict.fromkeys((score.kind, score.sizes) for score in scores):
        line = f"{kind:6} {sizes[0]:>2}-{sizes[1]:<2} "
        for manner in manners:
            found = [s for s in scores if (s.kind, s.sizes, s.manner) == (kind, sizes, manner)]
            line += f"{sum(s.solved for s in found) / sum(s.total for s in found):>18.1%}"
        lines.append(line)
    line = "all          "
    for manner in manners:
        found = [s for s in scores if s.manner == manner]
        line += f"{sum(s.solved for s in found) / sum(s.total for s in found):>18.1%}"
    return "\n".join([*lines, line])


def _tally(manner: str, problems: Sequence[Problem], solved: Sequence[bool]) -> list[Score]:
    scores = []
    for kind in KINDS:
        half = MAX_SIZE[kind] // 2
        for low, high in ((1, half), (half + 1, MAX_SIZE[kind])):
            marks = [
                s for p, s in zip(problems, solved, strict=True) if p.kind == kind and low <= p.size <= high
            ]
            scores.append(Score(kind, (low, high), manner, sum(marks), len(marks)))
    return scores
