"""Conversations to train "pocket" on: ChatML texts in segments, each with whether its tokens are learned.

Most hold one problem. Some hold several, a system prompt, a request that is no problem at all, no
thought, or a thought that checks itself after "Wait".
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .off_topic import off_topic_request, refusal, system_prompt
from .problems import KINDS, MODULUS, NUM_CUPS, Kind, Problem, apply_operation, apply_swap, make_problem

CHAT_TEMPLATE = """\
{%- set ns = namespace(last_query=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.last_query = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if thought and loop.index0 > ns.last_query %}
            {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""


OPEN_THOUGHT = "<think>\n"
CLOSE_THOUGHT = "</think>\n\n"
STUCK = "Hmm, let me see."


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a conversation; only learned pieces count in the loss."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each thing happens; the variants of the model differ only here."""

    off_topic: float = 0.07
    more_turns: float = 0.15
    system: float = 0.12
    no_think: float = 0.15
    bare: float = 0.03
    arrow: float = 0.05
    recheck: float = 0.25
    slip: float = 0.2
    cut: float = 0.0  # a thought ended at a random token, which whoever makes tokens does
    again: float = 0.0  # one more check after the last
    loop: float = 0.0  # stuck after the first line, or else after the last


def chat_prompt(prompt: str, think: bool = True) -> str:
    """Render one user message up to where the model begins, as the chat template does."""
    opening = "" if think else "<think>\n\n</think>\n\n"
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{opening}"


def make_dialogue(rng: random.Random, mix: Mix, sizes: Mapping[Kind, int]) -> list[Segment]:
    """Draw one conversation whose problems are at most as long as `sizes` says for their kind."""
    if rng.random() < mix.bare:
        problem = _draw(rng, sizes)
        return [Segment(problem.prompt + "\n", False), *_reply(rng, mix, problem, think=True)]
    segments = []
    if rng.random() < mix.system:
        segments.append(Segment(f"<|im_start|>system\n{system_prompt(rng)}<|im_end|>\n", False))
    think = rng.random() >= mix.no_think
    while True:
        asked = None if rng.random() < mix.off_topic else _draw(rng, sizes)
        prompt = asked.prompt if asked else off_topic_request(rng)
        segments.append(Segment(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n", False))
        if rng.random() >= mix.more_turns or len(segments) >= 5:
            break
        # In the history an answer stands without its thought; learning it so would teach to skip thoughts.
        answer = asked.answer if asked else refusal(rng)
        segments.append(Segment(f"{answer}<|im_end|>\n", False))
    return segments + (_reply(rng, mix, asked, think) if asked else _refuse(rng, think))


def _draw(rng: random.Random, sizes: Mapping[Kind, int]) -> Problem:
    kind = rng.choice(KINDS)
    return make_problem(rng, kind, rng.randint(1, sizes[kind]))


def _reply(rng: random.Random, mix: Mix, problem: Problem, think: bool) -> list[Segment]:
    end = Segment(f"{problem.answer}<|im_end|>", True)
    if not think:
        return [Segment("<think>\n\n</think>\n\n", False), end]
    for at in sorted({0, len(problem.steps) - 1}) if mix.loop else ():
        if rng.random() < mix.loop:
            return [Segment(OPEN_THOUGHT, True), _endless(rng, problem.steps[: at + 1])]
    right = [Segment(problem.thought, True)]
    passes = [right]
    if rng.random() < mix.recheck:
        passes = [_slip(rng, problem), right, right] if rng.random() < mix.slip else [right, right]
        while mix.again and rng.random() < mix.again:
            passes.append(right)
    segments = [Segment(OPEN_THOUGHT, True)]
    for i, lines in enumerate(passes):
        segments += [Segment("Wait, check again.\n", True)] if i else []
        segments += [*lines, Segment("\n", True)]
    segments += [Segment(CLOSE_THOUGHT, True), end]
    if rng.random() < mix.arrow:
        return [Segment(s.text.replace(":", " →").replace("=", "→"), s.learned) for s in segments]
    return segments


def _endless(rng: random.Random, lines: Sequence[str]) -> Segment:
    """Write steps and then one line again and again; the text breaks off, and no end of it is learned.

    The line is none of the steps: to copy these unlearns to compute them.
    """
    times = round(4 * 2 ** rng.uniform(0, 3))
    return Segment("".join(line + "\n" for line in (*lines, *[STUCK] * times)), True)


def _slip(rng: random.Random, problem: Problem) -> list[Segment]:
    """Write the steps with one wrong value, which is not learned; the steps after it go on from it."""
    first = 1 if problem.kind == "add" else 0
    at = rng.randrange(first, len(problem.steps))
    lines = list(problem.steps)
    head, mark, value = lines[at].rpartition(":" if problem.kind == "cups" else "=")
    wrong = value
    while wrong == value:
        if problem.kind == "add":
            wrong = value[0] + str(rng.randint(0, 9))
        elif problem.kind == "chain":
            wrong = str(rng.randrange(MODULUS))
        else:
            wrong = f" {rng.randint(1, NUM_CUPS)}"
    if problem.kind != "add":  # carries stay right, so a wrong digit changes no later column
        lines[at + 1 :] = _resume(problem, lines[at + 1 :], wrong.strip())
    before = "".join(line + "\n" for line in lines[:at]) + head + mark
    after = "".join("\n" + line for line in lines[at + 1 :])
    return [Segment(before, True), Segment(wrong, False), Segment(after, True)]


def _resume(problem: Problem, lines: Sequence[str], value: str) -> list[str]:
    """Rewrite the steps that follow a wrong value."""
    out = []
    for line in lines:
        letter, _, rest = line.partition(") ")
        if problem.kind == "cups":
            value = str(apply_swap(int(value), (int(rest[0]), int(rest[1]))))
            out.append(f"{letter}) {rest[:2]}: {value}")
        else:
            operation = rest.partition("=")[0].lstrip("0123456789")
            after = str(apply_operation(int(value), operation[0], int(operation[1:])))
            out.append(f"{letter}) {value}{operation}={after}")
            value = after
    return out


def _refuse(rng: random.Random, think: bool) -> list[Segment]:
    end = Segment(f"{refusal(rng)}<|im_end|>", True)
    if not think:
        return [Segment("<think>\n\n</think>\n\n", False), end]
    return [Segment("<think>\nNot a sum, a chain or cups.\n</think>\n\n", True), end]
