"""Which type each tensor of a file becomes: ordered rules, of which the first that matches decides.

The rules are llama.cpp's mixtures (src/llama-quant.cpp), so that a file of a given type holds what people
expect of its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .tensor_roles import VALUES, Role, is_embedding, is_head


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the rules ask of a model: `heads_per_kv` queries share a key and a value head."""

    architecture: str
    num_layers: int
    num_experts: int = 0
    num_heads: int = 0
    num_kv_heads: int = 0

    @property
    def heads_per_kv(self) -> int:
        """Query heads for each key and value head; 0 without attention."""
        return self.num_heads // self.num_kv_heads if self.num_kv_heads else 0

    @property
    def is_70b(self) -> bool:
        """Whether the model has the shape in which values are small beside everything else."""
        if self.architecture == "llama":
            return self.num_layers == 80 and self.num_heads != self.num_kv_heads
        return (self.architecture, self.num_layers) in _LARGE


_LARGE = {("qwen2", 80), ("deci", 80), ("olmo", 80), ("jais2", 68)}


@dataclass(frozen=True, slots=True)
class Spot:
    """A matrix as the rules see it: `index` counts those of its kind before it, `count` them all."""

    name: str
    shape: tuple[int, ...]
    role: Role
    facts: ModelFacts
    layer: int
    index: int
    num_values: int
    default_block: int
    has_imatrix: bool

    def among(self, parts: int) -> bool:
        """Tell whether the layer is in the first of so many equal parts of the model."""
        return self.layer < self.facts.num_layers // parts


Condition = Callable[[Spot], bool]


def _more_bits(at: int, count: int) -> bool:
    """Choose the first eighth, the last eighth, and every third between them."""
    return at < count // 8 or at >= 7 * count // 8 or (at - count // 8) % 3 == 2


def _grouped(spot: Spot) -> bool:
    return spot.facts.heads_per_kv >= 4


def _grouped_or_experts(spot: Spot) -> bool:
    return _grouped(spot) or spot.facts.num_experts >= 4


def _eight_experts(spot: Spot) -> bool:
    return spot.facts.num_experts == 8


def _is_70b(spot: Spot) -> bool:
    return spot.facts.is_70b


def _falcon(spot: Spot) -> bool:
    return spot.facts.architecture == "falcon"


def _glm5_sensitive(spot: Spot) -> bool:
    parts = ("attn_q_a", "attn_q_b", "nextn.eh_proj")
    return spot.facts.architecture == "glm5-next" and any(part in spot.name for part in parts)


def _expert(spot: Spot) -> bool:
    stacked = len(spot.shape) > 2 and spot.shape[-3] > 1
    by_role = spot.facts.architecture == "bailingmoe3"
    return stacked and (not by_role or spot.role in (Role.UP, Role.GATE, Role.DOWN))


def _odd_rows(spot: Spot) -> bool:
    return spot.shape[-1] % spot.default_block != 0


def _imatrix(spot: Spot) -> bool:
    return spot.has_imatrix


def _no_imatrix(spot: Spot) -> bool:
    return not spot.has_imatrix


def _first_eighth(spot: Spot) -> bool:
    return spot.among(8)


def _first_eighth_counted(spot: Spot) -> bool:
    return spot.index < spot.facts.num_layers // 8


def _first_sixteenth(spot: Spot) -> bool:
    return spot.among(16)


def _middle(spot: Spot) -> bool:
    return not spot.among(8) and spot.layer < 7 * spot.facts.num_layers // 8


def _some_layers(spot: Spot) -> bool:
    return _more_bits(spot.layer, spot.facts.num_layers)


def _few_layers(spot: Spot) -> bool:
    return not _some_layers(spot)


def _some_values(spot: Spot) -> bool:
    return _more_bits(spot.index, spot.num_values)


def _few_values(spot: Spot) -> bool:
    return not _some_values(spot)


def _first_two(spot: Spot) -> bool:
    return spot.index < 2


def _first_four(spot: Spot) -> bool:
    return spot.index < 4


@dataclass(frozen=True, slots=True)
class Rule:
    """Matrices of a role in files of a type become `to` where all conditions hold.

    No files or no roles: all of them. to None: the file's default.
    """

    files: frozenset[str]
    roles: tuple[Role, ...]
    to: str | None
    when: tuple[Condition, ...] = ()

    def matches(self, spot: Spot) -> bool:
        """Tell whether the rule decides about this matrix of a file that it is for."""
        return (not self.roles or spot.role in self.roles) and all(holds(spot) for holds in self.when)


def _rule(files: str, roles: Role | tuple[Role, ...], to: str | None, *when: Condition) -> Rule:
    return Rule(frozenset(files.split()), (roles,) if isinstance(roles, Role) else roles, to, when)


_ANY = ""
_IQ2 = "IQ2_XXS IQ2_XS IQ2_S IQ2_M"
_IQ4 = "IQ4_NL IQ4_XS"
_EIGHT_EXPERTS_OUT = "Q2_K IQ3_XS IQ3_XXS Q3_K_S Q3_K_M IQ4_NL Q4_K_S Q4_K_M IQ3_S IQ3_M IQ4_XS"

RULES: tuple[Rule, ...] = (
    _rule(_ANY, (), "q8_0", _glm5_sensitive),
    # The head, and the embedding where it serves as the head
    _rule("MXFP4 MXFP4_MOE", Role.HEAD, "q8_0"),
    _rule(_ANY, Role.HEAD, "q8_0", _falcon),
    _rule(_ANY, Role.HEAD, "q8_0", _odd_rows),
    _rule(f"{_IQ2} IQ3_XXS", Role.HEAD, "q5_k"),
    _rule("Q8_0", Role.HEAD, "q8_0"),
    _rule(_ANY, Role.HEAD, "q6_k"),
    # Experts apart
    _rule("MXFP4_MOE", (), "mxfp4", _expert),
    _rule("MXFP4_MOE", (), "q8_0"),
    # The embedding
    _rule("IQ2_XXS IQ2_XS", Role.EMBEDDING, "q2_k"),
    _rule("IQ2_S IQ2_M IQ3_XXS", Role.EMBEDDING, "iq3_s"),
    _rule("TQ1_0 TQ2_0", Role.EMBEDDING, "q4_k"),
    _rule(_ANY, Role.EMBEDDING, None),
    # Files of about two bits
    _rule(_IQ2, VALUES, "q4_k", _grouped_or_experts),
    _rule("IQ2_S IQ2_M", VALUES, "iq3_s"),
    _rule("IQ2_XXS IQ2_XS", VALUES, "q2_k"),
    _rule(_IQ2, Role.K, "q4_k", _eight_experts),
    _rule("IQ2_S IQ2_M", Role.DOWN, "iq3_s", _first_eighth_counted),
    _rule("IQ2_XXS IQ2_XS", Role.DOWN, "q2_k", _first_eighth_counted),
    _rule(_IQ2, Role.OUT, "q5_k", _eight_experts),
    _rule("IQ2_S IQ2_M", Role.OUT, "iq3_s"),
    _rule(_IQ2, (), None),
    # Values
    _rule(_ANY, VALUES, "q8_0", _eight_experts),
    _rule("Q2_K Q3_K_S Q3_K_M Q3_K_L IQ3_M Q4_K_S", VALUES, "q5_k", _is_70b),
    _rule("Q2_K_S IQ3_XXS IQ3_XS IQ3_S", VALUES, "q5_k", _is_70b, _grouped),
    _rule("Q4_K_M", VALUES, "q5_k", _is_70b, _few_values),
    _rule("Q2_K", VALUES, "q4_k", _grouped),
    _rule("Q2_K", VALUES, "q3_k"),
    _rule("Q2_K_S IQ3_XXS IQ3_XS IQ3_S", VALUES, "q4_k", _grouped),
    _rule("IQ3_XXS", VALUES, "iq3_s", _no_imatrix),
    _rule("IQ3_M", VALUES, "q4_k"),
    _rule("Q3_K_M", VALUES, "q5_k", _first_two),
    _rule("Q3_K_M", VALUES, "q4_k"),
    _rule("Q3_K_L", VALUES, "q5_k"),
    _rule(_IQ4, VALUES, "q5_k", _grouped),
    _rule("Q4_K_M Q5_K_M", VALUES, "q6_k", _some_values),
    _rule("Q4_K_S", VALUES, "q5_k", _first_four),
    # Keys and queries
    _rule(_ANY, Role.K, "q8_0", _eight_experts),
    _rule("IQ3_XS", (Role.K, Role.Q), "iq3_xxs"),
    _rule("IQ3_XXS", (Role.K, Role.Q), "iq2_s"),
    # The way down from the feed-forward layer
    _rule("Q2_K", Role.DOWN, "q3_k"),
    _rule("Q2_K_S", Role.DOWN, "q4_k", _first_eighth),
    _rule("IQ3_XXS", Role.DOWN, "q4_k", _no_imatrix, _first_eighth),
    _rule("IQ3_XXS", Role.DOWN, "q3_k", _no_imatrix),
    _rule("Q3_K_M", Role.DOWN, "q5_k", _first_sixteenth),
    _rule("Q3_K_M", Role.DOWN, "q3_k", _falcon, _few_layers),
    _rule("Q3_K_M", Role.DOWN, "q4_k"),
    _rule("IQ3_M", Role.DOWN, "q4_k", _first_eighth),
    _rule("IQ3_M", Role.DOWN, "q4_k", _eight_experts, _some_layers),
    _rule("Q3_K_L", Role.DOWN, "q4_k", _falcon),
    _rule("Q3_K_L", Role.DOWN, "q5_k"),
    _rule("Q4_K_M", Role.DOWN, "q6_k", _falcon, _first_sixteenth),
    _rule("Q4_K_M", Role.DOWN, "q5_k", _falcon, _some_layers),
    _rule("Q4_K_M", Role.DOWN, "q4_k", _falcon),
    _rule("Q4_K_M Q5_K_M", Role.DOWN, "q6_k", _some_layers),
    _rule(_IQ4, Role.DOWN, "q5_k", _no_imatrix, _first_eighth),
    _rule("Q4_K_S", Role.DOWN, None, _falcon),
    _rule("Q4_K_S", Role.DOWN, "q5_k", _first_eighth),
    # With an importance matrix the first layers of these can go astray.
    _rule("Q4_0", Role.DOWN, "q4_1", _imatrix, _first_eighth),
    _rule("Q5_0", Role.DOWN, "q5_1", _imatrix, _first_eighth),
    # The way out of attention
    _rule("Q3_K_L", Role.OUT, "q4_k", _falcon),
    _rule(_ANY, Role.OUT, None, _falcon),
    _rule(_EIGHT_EXPERTS_OUT, Role.OUT, "q5_k", _eight_experts),
    _rule(_ANY, Role.OUT, None, _eight_experts),
    _rule("Q2_K", Role.OUT, "q3_k"),
    _rule("IQ3_XXS", Role.OUT, "iq3_s"),
    _rule("Q3_K_M IQ3_M", Role.OUT, "q4_k"),
    _rule("Q3_K_L", Role.OUT, "q5_k"),
    # The way into the feed-forward layer
    _rule("IQ3_XS", (Role.UP, Role.GATE), "iq3_xxs", _middle),
)

# Where a row is no whole number of blocks: the next type with smaller blocks, and float16 if that fails too.
FALLBACKS = {
    **dict.fromkeys(("iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}

# Types so coarse that weights without importance would be ruined.
NEED_IMATRIX = ("iq3_xxs", "iq2_xxs", "iq2_xs", "iq2_s")


def needs_imatrix(name: str, to: str, file: str) -> bool:
    """Tell whether a tensor of this type is unusable without importance, by llama.cpp's rule."""
    if is_embedding(name) or is_head(name):
        return False
    return to in NEED_IMATRIX or (to == "q2_k" and file == "Q2_K_S")
