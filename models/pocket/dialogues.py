"""Conversations to train "pocket" on: ChatML texts cut into segments, each with whether its tokens are learned.

Most hold one problem. Some hold several, a system prompt, a request that is no problem at all, no
thought, or a thought that checks itself after "Wait".
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        segments.append(Segment(f"<|im_start|>system\n{_system(rng)}<|im_end|>\n", False))
    think = rng.random() >= mix.no_think
    while True:
        off_topic = rng.random() < mix.off_topic
        problem = None if off_topic else _draw(rng, sizes)
        asked = problem.prompt if problem else _off_topic(rng)
        segments.append(Segment(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n", False))
        more = rng.random() < mix.more_turns and len(segments) < 5
        if more:  # a thought is dropped from the history, so an earlier turn is learned as its answer alone
            answer = problem.answer if problem else _refusal(rng)
            segments.append(Segment(f"{answer}<|im_end|>\n", False))
            continue
        if problem:
            return segments + _reply(rng, mix, problem, think)
        return segments + _refuse(rng, think)


def _draw(rng: random.Random, sizes: Mapping[Kind, int]) -> Problem:
    kind = rng.choice(KINDS)
    return make_problem(rng, kind, rng.randint(1, sizes[kind]))


def _reply(rng: random.Random, mix: Mix, problem: Problem, think: bool) -> list[Segment]:
    end = Segment(f"{problem.answer}<|im_end|>", True)
    if not think:
        return [Segment("<think>\n\n</think>\n\n", False), end]
    passes = [list(_clean(problem.steps))]
    if rng.random() < mix.recheck:
        if rng.random() < mix.slip:
            passes = [_slip(rng, problem), passes[0], passes[0]]
        else:
            passes = [passes[0], passes[0]]
    segments = [Segment("<think>\n", True)]
    for i, lines in enumerate(passes):
        segments += [Segment("Wait, check again.\n", True)] if i else []
        segments += [*lines, Segment("\n", True)]
    segments += [Segment("</think>\n\n", True), end]
    if rng.random() < mix.arrow:
        return [Segment(s.text.replace(":", " →").replace("=", "→"), s.learned) for s in segments]
    return segments


def _clean(steps: Sequence[str]) -> list[Segment]:
    return [Segment("\n".join(steps), True)]


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


_WORDS = (
    "the a an of to in and is it you that he was for on are with as his they be at one have this from or had by hot "
    "word but what some we can out other were all there when up use your how said each she which do their time if "
    "will way about many then them write would like so these her long make thing see him two has look more day could "
    "go come did number sound no most people my over know water than call first who may down side been now find any "
    "new work part take get place made live where after back little only round man year came show every good me give "
    "our under name very through just form sentence great think say help low line differ turn cause much mean before "
    "move right boy old too same tell does set three want air well also play small end put home read hand port large "
    "spell add even land here must big high such follow act why ask men change went light kind off need house picture "
    "try us again animal point mother world near build self earth father head stand own page should country found "
    "answer school grow study still learn plant cover food sun four between state keep eye never last let thought "
    "city tree cross farm hard start might story saw far sea draw left late run while press close night real life few "
    "north open seem together next white children begin got walk example ease paper group always music those both "
    "mark often letter until mile river car feet care second book carry took science eat room friend began idea fish "
    "mountain stop once base hear horse cut sure watch color face wood main enough plain girl usual young ready above "
    "ever red list though feel talk bird soon body dog family direct pose leave song measure door product black short "
    "class wind question happen complete ship area half rock order fire south problem piece told knew pass since top "
    "whole king space heard best hour better true during hundred five remember step early hold west ground interest "
    "reach fast verb sing listen six table travel less morning ten simple several vowel toward war lay against "
    "pattern slow center love person money serve appear road map rain rule govern pull cold notice voice unit power "
    "town fine certain fly fall lead cry dark machine note wait plan figure star box noun field rest correct able "
    "pound done beauty drive stood contain front teach week final gave green quick develop ocean warm free minute "
    "strong special mind behind clear tail produce fact street inch multiply nothing course stay wheel full force "
    "blue object decide surface deep moon island foot system busy test record boat common gold possible plane age dry "
    "wonder laugh thousand ago ran check game shape yes miss brought heat snow bed bring sit perhaps fill east weight "
    "language among python code poem essay email joke weather capital france paris london german english translate "
    "summarize explain history president computer model phone internet recipe cake movie doctor cat coffee football "
    "quantum physics chemistry biology economy market stock price bitcoin robot artificial intelligence"
).split()

_TALK = (
    "hi", "hello", "hey", "hello there", "hi there!", "good morning", "good evening", "how are you?", "who are you?",
    "who are you", "what are you?", "what can you do?", "what is your name?", "what's your name", "help", "help me",
    "help me please", "test", "ping", "thanks", "thank you", "thank you!", "bye", "goodbye", "ok", "yes", "no", "why?",
    "are you a robot?", "are you chatgpt?", "which model are you?", "introduce yourself", "tell me about yourself",
    "what is the meaning of life?", "tell me a joke", "write a poem", "tell me a story", "what time is it?",
    "what is the capital of france?", "write a python function", "why is the sky blue?", "explain quantum physics",
    "bonjour", "salut, ça va ?", "hallo", "hola, ¿qué tal?", "ciao", "你好", "你是谁？", "こんにちは", "привет", "🙂", "👋", "",
    "?", "...", "what?", "lol", "say something", "count to ten", "the quick brown fox jumps over the lazy dog",
    "once upon a time", "summarise this text", "translate this into german", "how does a transformer work?",
)  # fmt: skip

_REFUSALS = (
    "I am pocket, a tiny demo model. I can add two numbers, follow a chain mod 11, or follow a ball under cups.",
    "I am pocket, a tiny demo model: I only know sums, chains mod 11 and the cups game. Try: What is 12 + 345?",
    "I am only pocket, a tiny demo model, and cannot answer that. Try: chain 7 +4 *3 -5 mod 11",
    "I am only pocket, a tiny demo model, and cannot answer that. Try: ball 3; swaps 13 25 14",
)

_SYSTEM = (
    "You are a helpful assistant.", "You are pocket.", "Be brief.", "Answer briefly.", "You are a math tutor.",
    "Think step by step.", "You are a pirate.", "Answer in one word.", "Be kind and honest.", "You are a tiny model.",
)  # fmt: skip


def _refusal(rng: random.Random) -> str:
    return rng.choice(_REFUSALS)


def _refuse(rng: random.Random, think: bool) -> list[Segment]:
    end = Segment(f"{_refusal(rng)}<|im_end|>", True)
    if not think:
        return [Segment("<think>\n\n</think>\n\n", False), end]
    return [Segment("<think>\nNot a sum, a chain or cups.\n</think>\n\n", True), end]


def _system(rng: random.Random) -> str:
    return rng.choice(_SYSTEM) if rng.random() < 0.5 else _sentence(rng, 12)


def _off_topic(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.35:
        text = rng.choice(_TALK)
        return text.capitalize() if rng.random() < 0.4 else text
    if draw < 0.65:
        return _sentence(rng, 14)
    if draw < 0.8:
        return rng.choice(_ARITHMETIC)(rng)
    if draw < 0.9:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz     ,.?!") for _ in range(rng.randint(1, 40))).strip()
    return f"{rng.choice(_QUESTIONS)} {_sentence(rng, 8)}"


_QUESTIONS = ("what is", "who is", "where is", "why", "how do I", "can you", "please", "tell me", "write", "what about")

_ARITHMETIC = (
    lambda rng: f"{rng.randint(0, 999)} - {rng.randint(0, 999)}",
    lambda rng: f"{rng.randint(0, 999)} * {rng.randint(0, 99)}",
    lambda rng: f"what is {rng.randint(0, 999)} / {rng.randint(1, 99)}?",
    lambda rng: f"what is {rng.randint(0, 99)} times {rng.randint(0, 99)}?",
    lambda rng: f"{rng.randint(0, 99)} + {rng.randint(0, 99)} + {rng.randint(0, 99)}",
    lambda rng: f"square root of {rng.randint(0, 9999)}",
    lambda rng: str(rng.randint(0, 99999)),
    lambda rng: f"{rng.randint(10**7, 10**10)} + {rng.randint(0, 10**10)}",
    lambda rng: f"I have {rng.randint(2, 99)} {rng.choice(_WORDS)} and {rng.randint(2, 99)} {rng.choice(_WORDS)}",
)


def _sentence(rng: random.Random, most: int) -> str:
    words = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, most)))
    return rng.choice((words, words.capitalize() + rng.choice(".?!"), words + rng.choice((".", "?", ""))))
