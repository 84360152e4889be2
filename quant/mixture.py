"""The types of all tensors of a file: the recipe's, what the user asks for instead, and what the rows allow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol

from ..errors import InvalidRequest
from .dtype import DType, dtype
from .file_types import FileType, tensor_type
from .recipe import FALLBACKS, RULES, ModelFacts, Spot, needs_imatrix
from .tensor_roles import VALUES, Role, in_order, is_embedding, is_head, layer_of, may_quantize, role_of


class Stored(Protocol):
    """A tensor as its file describes it; shape has the outermost dimension first."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Override:
    """A type for every matrix whose name the expression is found in."""

    pattern: re.Pattern[str]
    to: DType

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read `REGEX=TYPE`; raise InvalidRequest for an expression or a type that is none."""
        expression, _, kind = text.rpartition("=")
        if not expression or not kind:
            raise InvalidRequest(f"'{text}' is not REGEX=TYPE", hint="for example ffn_down=q6_k")
        try:
            # Names of tensors are written in small letters.
            return cls(re.compile(expression, re.IGNORECASE), tensor_type(kind))
        except re.error as error:
            raise InvalidRequest(
                f"'{expression}' is not a regular expression: {error}", hint="for example blk\\.[0-3]\\."
            ) from None


@dataclass(frozen=True, slots=True)
class MixtureOptions:
    """What is asked for; file_type None: every tensor stays as it is.

    exact: types of single tensors by name, which nothing else changes but rows that do not fit.
    """

    file_type: FileType | None
    overrides: tuple[Override, ...] = ()
    head: DType | None = None
    embedding: DType | None = None
    pure: bool = False
    keep_head: bool = False
    has_imatrix: bool = False
    exact: Mapping[str, DType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of one tensor; `wanted` is the type that its rows had to fit."""

    name: str
    shape: tuple[int, ...]
    source: DType
    target: DType
    wanted: DType
    needs_imatrix: bool

    @property
    def changes(self) -> bool:
        """Whether the tensor gets another type."""
        return self.source is not self.target

    @property
    def fell_back(self) -> bool:
        """Whether its rows are no whole blocks of the type that it should have had."""
        return self.wanted is not self.target

    @property
    def requantizes(self) -> bool:
        """Whether weights that were rounded to a few bits once are rounded again."""
        return self.changes and self.source.is_block

    @property
    def source_nbytes(self) -> int:
        """Bytes before."""
        return self.source.shape_bytes(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes afterwards."""
        return self.target.shape_bytes(self.shape)

    @property
    def num_weights(self) -> int:
        """How many numbers the tensor holds."""
        return self.target.shape_bytes(self.shape) // self.target.nbytes * self.target.block


def choose_types(tensors: Sequence[Stored], facts: ModelFacts, options: MixtureOptions) -> list[Choice]:
    """Choose every tensor's type; they come back in llama.cpp's order, with COPY in their own."""
    by_name = {tensor.name: tensor for tensor in tensors}
    names = list(by_name) if options.file_type is None else in_order(list(by_name))
    free = [name for name in names if _may_change(by_name[name], facts, options)]
    _check(names, free, options)
    mixture = None if options.file_type is None else Mixture(options.file_type, facts, names)
    choices = []
    for name in names:
        tensor = by_name[name]
        source = dtype(tensor.dtype)
        wanted = source
        if name in free:
            wanted = _asked(tensor, options, tied=not any(map(is_head, names))) or (
                source if mixture is None else mixture.choose(tensor, options)
            )
        target = fitting(wanted, tensor.shape[-1]) if name in free else source
        coarse = needs_imatrix(name, target.name, "" if mixture is None else mixture.file.name)
        choices.append(Choice(name, tensor.shape, source, target, wanted, coarse and target is not source))
    return choices


def undecided(tensors: Sequence[Stored], facts: ModelFacts, options: MixtureOptions) -> list[str]:
    """Return the matrices whose types nothing in the options names, in llama.cpp's order."""
    by_name = {tensor.name: tensor for tensor in tensors}
    names = in_order(list(by_name))
    tied = not any(map(is_head, names))
    free = [name for name in names if _may_change(by_name[name], facts, options)]
    return [name for name in free if _asked(by_name[name], options, tied=tied) is None]


def fitting(kind: DType, row: int) -> DType:
    """Return the type, or the nearest one that divides rows of so many weights."""
    if row % kind.block == 0:
        return kind
    smaller = FALLBACKS.get(kind.name)
    if smaller is not None and row % dtype(smaller).block == 0:
        return dtype(smaller)
    return dtype("f16")


def _may_change(tensor: Stored, facts: ModelFacts, options: MixtureOptions) -> bool:
    if options.keep_head and is_head(tensor.name):
        return False
    return may_quantize(tensor.name, tensor.shape, facts.architecture)


def _asked(tensor: Stored, options: MixtureOptions, *, tied: bool) -> DType | None:
    """Return the type that the user names for a tensor, if any."""
    name = tensor.name
    if name in options.exact:
        return options.exact[name]
    named = next((o.to for o in options.overrides if o.pattern.search(name)), None)
    if options.embedding is not None and is_embedding(name):
        # The second table of embeddings is large, and follows only while it is not named itself.
        return named or options.embedding if name != "token_embd.weight" else options.embedding
    if options.head is not None and is_head(name):
        return options.head
    if named is None and options.head is not None and role_of(name, tied=tied) is Role.HEAD:
        return options.head
    return named


def _check(names: Sequence[str], free: Sequence[str], options: MixtureOptions) -> None:
    """Raise InvalidRequest for an expression that decides nothing."""
    for override in options.overrides:
        pattern = override.pattern
        if any(pattern.search(name) for name in free):
            continue
        kept = next((name for name in names if pattern.search(name)), None)
        if kept is not None:
            raise InvalidRequest(
                f"'{pattern.pattern}' matches no tensor that is quantized; {kept} always stays as it is"
            )
        words = sorted({re.sub(r"^blk\.\d+\.|\.weight$", "", name) for name in free})
        near = get_close_matches(pattern.pattern, words, n=3, cutoff=0.5) or words[:8]
        raise InvalidRequest(
            f"'{pattern.pattern}' matches no tensor of this model",
            hint=f"there are, for example: {' '.join(near)}",
        )


class Mixture:
    """Applies the rules to a model's matrices, which must come in order."""

    def __init__(self, file: FileType, facts: ModelFacts, names: Sequence[str]) -> None:
        self.file = file
        self.facts = facts
        self._tied = not any(is_head(name) for name in names)
        self._num_values = sum(role_of(name, tied=self._tied) in VALUES for name in names)
        self._seen: Counter[str] = Counter()
        self._rules = [rule for rule in RULES if not rule.files or file.name in rule.files]

    def choose(self, tensor: Stored, options: MixtureOptions) -> DType:
        """Return the type for the next matrix."""
        default = self.file.dtype
        if options.pure or not default.is_block:
            return default
        spot = self._spot(tensor, options.has_imatrix)
        to = next((rule.to for rule in self._rules if rule.matches(spot)), None)
        return default if to is None else dtype(to)

    def _spot(self, tensor: Stored, has_imatrix: bool) -> Spot:
        role = role_of(tensor.name, tied=self._tied)
        kind = "values" if role in VALUES else role.value
        index = self._seen[kind]
        self._seen[kind] += 1
        # Of experts there may be several in one layer.
        layer = layer_of(tensor.name) if self.facts.num_experts > 1 else None
        return Spot(
            name=tensor.name,
            shape=tensor.shape,
            role=role,
            facts=self.facts,
            layer=index if layer is None else layer,
            index=index,
            num_values=self._num_values,
            default_block=self.file.dtype.block,
            has_imatrix=has_imatrix,
        )
