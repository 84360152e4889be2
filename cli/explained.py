"""What `llm explain` tells, as values: their names are those of its JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting and who set it.

    source: flag, session, environment, modelfile, gguf, generation_config or default; of num_ctx also model or memory.
    """

    name: str
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """The chat template: where it comes from, its language, the family that it was taken for, and why.

    reads: the names of the variables in it; error: what is wrong with it; note: what was taken instead.
    """

    source: str
    language: str
    lines: int
    family: str
    reasons: list[str]
    reads: list[str]
    error: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Tools:
    """How tools are offered and called: described: where the model reads of them; calls: how many of one message come
    through (2 stands for any number); results: whether those come through; forced: whether a call can be enforced."""

    described: str
    syntax: str | None
    calls: int
    results: bool
    forced: bool


@dataclass(frozen=True, slots=True)
class Thoughts:
    """How a thought would be limited, in tokens.

    tags: what stands around it; opened: the prompt ends within it; passed: what the template is told; window: the most
    that the reply can have; soft, landing, hard: from where an end is favoured, taken, and forced; message, closes:
    what is put in then; waits: what is said to an end before `minimum`.
    """

    can_think: bool
    mode: str = "auto"
    enforced: bool = False
    tags: tuple[str, str] | None = None
    opened: bool = False
    passed: dict[str, object] = field(default_factory=dict)
    window: int | None = None
    budget: int | None = None
    requested: int | None = None
    minimum: int = 0
    rounds: int = 0
    waits: list[str] = field(default_factory=list)
    soft: int | None = None
    landing: int | None = None
    hard: int | None = None
    message: str = ""
    closes: str = ""
    loop: int = 0
    exit: float | None = None
    history: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Token:
    """One token; control: it stands for no text."""

    id: int
    text: str
    control: bool


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends a reply: tokens, and texts."""

    tokens: list[Token]
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Context:
    """The context in tokens: the one chosen, the model's own, who chose it, and what the prompt leaves of it."""

    length: int
    own: int
    source: str
    prompt: int
    left: int


@dataclass(frozen=True, slots=True)
class Kernels:
    """What computes; kept: the types of weights that stay in their own bits."""

    description: str
    computes: str
    cache_type_k: str
    cache_type_v: str
    kept: list[str]


@dataclass(frozen=True, slots=True)
class Memory:
    """What is taken, in bytes; free: what there is now, of which `reserve` is left for computing."""

    file: int
    weights: int
    cache: int
    cache_per_token: int
    reserve: int
    free: int
    unpacked_at_each_use: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompt that the model continues."""

    text: str
    opened: bool
    tokens: list[Token]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything together."""

    model: str
    path: str
    architecture: str
    quantization: str
    settings: tuple[Setting, ...]
    template: TemplateFacts
    tools: Tools
    thinking: Thoughts
    stop: Stops
    context: Context
    kernels: Kernels
    memory: Memory
    prompt: Rendered | None
    notes: list[str]
