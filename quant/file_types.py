"""The types that a whole file can be quantized to: name, number in the metadata, and what most matrices become."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import InvalidRequest
from .dtype import DTYPES, DType, dtype

COPY = "COPY"
"""Not a type: every tensor stays as it is."""


@dataclass(frozen=True, slots=True)
class FileType:
    """A name such as Q4_K_M; `number` is llama.cpp's for general.file_type, `loss` what to expect, in words."""

    name: str
    number: int
    default: str
    loss: str

    @property
    def dtype(self) -> DType:
        """What a matrix becomes that no rule of the recipe names."""
        return dtype(self.default)


# From the most bits to the fewest. Losses follow llama.cpp's published perplexities of 7B and 8B models;
# smaller models lose more.
_TABLE = (
    ("F32", 0, "f32", "none"),
    ("BF16", 32, "bf16", "none for models trained in bfloat16"),
    ("F16", 1, "f16", "none"),
    ("Q8_0", 7, "q8_0", "not measurable"),
    ("Q6_K", 18, "q6_k", "hardly any"),
    ("Q5_K_M", 17, "q5_k", "very small"),
    ("Q5_K_S", 16, "q5_k", "very small"),
    ("Q5_1", 9, "q5_1", "very small; Q5_K_M is better"),
    ("Q5_0", 8, "q5_0", "small; Q5_K_S is better"),
    ("Q4_1", 3, "q4_1", "noticeable; Q4_K_M is better"),
    ("Q4_K_M", 15, "q4_k", "small: what most people choose"),
    ("Q4_K_S", 14, "q4_k", "small"),
    ("IQ4_NL", 25, "iq4_nl", "small"),
    ("Q4_0", 2, "q4_0", "noticeable; fast everywhere"),
    ("IQ4_XS", 30, "iq4_xs", "small"),
    ("MXFP4", 38, "mxfp4", "noticeable, unless trained in it"),
    ("MXFP4_MOE", 38, "mxfp4", "none for models trained in it (experts only)"),
    ("Q3_K_L", 13, "q3_k", "noticeable"),
    ("Q3_K_M", 12, "q3_k", "noticeable"),
    ("IQ3_M", 27, "iq3_s", "noticeable"),
    ("IQ3_S", 26, "iq3_s", "noticeable"),
    ("Q3_K_S", 11, "q3_k", "large"),
    ("IQ3_XS", 22, "iq3_s", "large; wants an importance matrix"),
    ("IQ3_XXS", 23, "iq3_xxs", "large; wants an importance matrix"),
    ("Q2_K", 10, "q2_k", "large"),
    ("Q2_K_S", 21, "q2_k", "large; wants an importance matrix"),
    ("IQ2_M", 29, "iq2_s", "large; wants an importance matrix"),
    ("IQ2_S", 28, "iq2_xs", "very large; wants an importance matrix"),
    ("IQ2_XS", 20, "iq2_xs", "very large; wants an importance matrix"),
    ("IQ2_XXS", 19, "iq2_xxs", "very large; wants an importance matrix"),
    ("TQ2_0", 37, "tq2_0", "none for ternary models, total for others"),
    ("TQ1_0", 36, "tq1_0", "none for ternary models, total for others"),
)

FILE_TYPES: dict[str, FileType] = {row[0]: FileType(*row) for row in _TABLE}
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}

_QUANTIZABLE = {file_type.default for file_type in FILE_TYPES.values()}


def file_type(name: str) -> FileType:
    """Return the file type of this name, in any case; raise InvalidRequest with the nearest names."""
    wanted = name.strip().upper().replace("-", "_")
    found = FILE_TYPES.get(ALIASES.get(wanted, wanted))
    if found is None:
        near = get_close_matches(wanted, [*FILE_TYPES, *ALIASES, COPY], n=3, cutoff=0.5)
        raise InvalidRequest(
            f"there is no type '{name}'",
            field="type",
            hint=f"did you mean {' or '.join(near)}?" if near else "llm quantize --list shows the types",
        )
    return found


def tensor_type(name: str) -> DType:
    """Return the type of this name that a single tensor can become; raise InvalidRequest with the nearest names."""
    wanted = name.strip().lower().replace("-", "_")
    if wanted in _QUANTIZABLE:
        return DTYPES[wanted]
    if wanted.upper() in {**FILE_TYPES, **ALIASES}:
        hint = f"{name} is a mixture; a single tensor can be {file_type(name).default}"
    else:
        near = get_close_matches(wanted, sorted(_QUANTIZABLE), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {' '.join(sorted(_QUANTIZABLE))}"
    raise InvalidRequest(f"a tensor cannot become '{name}'", field="type", hint=hint)
