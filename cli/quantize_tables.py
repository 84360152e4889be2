"""What `llm quantize` prints: the plan of a file tensor by tensor, and the types that there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .formats import columns, human_bytes, printable

if TYPE_CHECKING:
    from ..models.quantize import Plan
    from ..models.quantize_source import Source
    from ..quant.file_types import FileType
    from ..quant.imatrix import ImportanceMatrix
    from ..quant.mixture import Choice

_GAP = "  "


def plan_lines(plan: Plan) -> list[str]:
    """Return the table of a plan, the total last."""
    rows = [["TENSOR", "FROM", "TO", "SIZE", "BITS", ""]]
    rows += [_row(choice) for choice in plan.choices]
    before, after = plan.source.nbytes, plan.nbytes
    total = (
        f"{len(plan.choices)} tensors: {human_bytes(before)} to {human_bytes(after)} ({after / before:.0%}), "
        f"{plan.bits_per_weight:.2f} bits per weight"
    )
    return [*columns(rows, _GAP), total]


def _row(choice: Choice) -> list[str]:
    bits = choice.nbytes * 8 / choice.num_weights
    note = f"rows of {choice.shape[-1]}: no {choice.wanted.name}" if choice.fell_back else ""
    target = choice.target.name if choice.changes else "="
    return [
        printable(choice.name),
        choice.source.name,
        target,
        human_bytes(choice.nbytes),
        f"{bits:.2f}",
        note,
    ]


def plan_json(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON has it, sizes in bytes."""
    return {
        "source": str(plan.source.path),
        "size": plan.nbytes,
        "source_size": plan.source.nbytes,
        "parameters": plan.source.num_weights,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "requires_imatrix": bool(plan.coarse),
        "requantizes": bool(plan.requantized),
        "fallbacks": [choice.name for choice in plan.fallbacks],
        "tensors": [
            {
                "name": choice.name,
                "shape": list(choice.shape),
                "from": choice.source.name,
                "to": choice.target.name,
                "source_size": choice.source_nbytes,
                "size": choice.nbytes,
                "bits_per_weight": round(choice.nbytes * 8 / choice.num_weights, 4),
            }
            for choice in plan.choices
        ],
    }


def fallback_note(plan: Plan) -> str | None:
    """Say which tensors got another type than the recipe's, if any did."""
    found = plan.fallbacks
    if not found:
        return None
    first = found[0]
    verb = "tensor has" if len(found) == 1 else "tensors have"
    return (
        f"note: {len(found)} {verb} rows that no block divides, such as {first.name}: "
        f"{first.shape[-1]} columns, {first.target.name} instead of {first.wanted.name}"
    )


def coverage_note(source: Source, importance: ImportanceMatrix) -> str | None:
    """Say which matrices importance was not measured for, and which it names that the model lacks, if any.

    Embeddings and heads do not count: llama-imatrix leaves them out.
    """
    from ..quant.tensor_roles import is_embedding, is_head, may_quantize

    architecture = source.facts().architecture
    matrices = [
        tensor.name
        for tensor in source.tensors
        if may_quantize(tensor.name, tensor.shape, architecture)
        and not is_embedding(tensor.name)
        and not is_head(tensor.name)
    ]
    covered = sum(name in importance.entries for name in matrices)
    known = {tensor.name for tensor in source.tensors}
    unknown = [name for name in importance.entries if name not in known and not is_head(name)]
    parts = []
    if covered < len(matrices):
        parts.append(f"covers {covered} of the model's {len(matrices)} matrices")
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        parts.append(f"names {unknown[0]}{more}, which the model has not")
    return f"note: the importance matrix {' and '.join(parts)}" if parts else None


def type_entries(source: Source | None) -> list[dict[str, object]]:
    """Return every type with its bits per weight and its loss; with a model, its size for that one."""
    from ..models.quantize import make_plan
    from ..quant.file_types import FILE_TYPES
    from ..quant.mixture import MixtureOptions

    entries: list[dict[str, object]] = []
    for kind in FILE_TYPES.values():
        entry: dict[str, object] = {"type": kind.name, "loss": kind.loss}
        if source is None:
            entry["bits_per_weight"] = _typical_bits(kind)
        else:
            plan = make_plan(source, MixtureOptions(kind, has_imatrix=_wants_imatrix(kind)))
            entry |= {"bits_per_weight": round(plan.bits_per_weight, 2), "size": plan.nbytes}
            entry["requires_imatrix"] = bool(plan.coarse)
        entries.append(entry)
    return entries


def type_lines(entries: Iterable[dict[str, object]]) -> list[str]:
    """Return the table of types."""
    entries = list(entries)
    sized = any("size" in entry for entry in entries)
    rows = [["TYPE", "BITS", *(["SIZE"] if sized else []), "EXPECTED LOSS"]]
    for entry in entries:
        size = entry.get("size")
        middle = [human_bytes(size)] if isinstance(size, int) else []
        rows.append([str(entry["type"]), f"{entry['bits_per_weight']:.2f}", *middle, str(entry["loss"])])
    return columns(rows, _GAP)


def _typical_bits(kind: FileType) -> float:
    """Return the bits per weight of Llama 3.1 8B, whose shape is that of many."""
    from ..quant.mixture import MixtureOptions, choose_types
    from ..quant.recipe import ModelFacts

    facts = ModelFacts("llama", num_layers=32, num_heads=32, num_kv_heads=8)
    choices = choose_types(_EIGHT_BILLION, facts, MixtureOptions(kind, has_imatrix=_wants_imatrix(kind)))
    return round(sum(c.nbytes for c in choices) * 8 / sum(c.num_weights for c in choices), 2)


def _wants_imatrix(kind: FileType) -> bool:
    """Tell whether nobody makes the type without importance."""
    return "importance" in kind.loss


class _Tensor:
    """A tensor of a model that is not at hand."""

    def __init__(self, name: str, *shape: int) -> None:
        self.name = name
        self.shape = shape
        self.dtype = "f32" if len(shape) == 1 else "f16"


_EIGHT_BILLION = [
    _Tensor("token_embd.weight", 128256, 4096),
    _Tensor("output.weight", 128256, 4096),
    *(
        _Tensor(f"blk.{layer}.{name}.weight", *shape)
        for layer in range(32)
        for name, shape in {
            "attn_q": (4096, 4096),
            "attn_k": (1024, 4096),
            "attn_v": (1024, 4096),
            "attn_output": (4096, 4096),
            "ffn_gate": (14336, 4096),
            "ffn_up": (14336, 4096),
            "ffn_down": (4096, 14336),
        }.items()
    ),
]
