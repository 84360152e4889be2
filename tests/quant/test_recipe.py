"""Which type each tensor becomes: the recipes, what the user asks for instead, and rows that do not fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from mull.errors import InvalidRequest
from mull.quant.dtype import DTYPES
from mull.quant.file_types import FILE_TYPES, file_type, tensor_type
from mull.quant.mixture import Choice, MixtureOptions, Override, choose_types, fitting
from mull.quant.recipe import FALLBACKS, RULES, ModelFacts
from mull.quant.tensor_roles import in_order, may_quantize

LLAMA = ModelFacts("llama", num_layers=32, num_heads=32, num_kv_heads=8)


@dataclass(frozen=True)
class Stored:
    name: str
    shape: tuple[int, ...]
    dtype: str = "f16"


def model(layers: int = 32, hidden: int = 512, *, tied: bool = False, dtype: str = "f16") -> list[Stored]:
    found = [
        Stored("token_embd.weight", (300, hidden), dtype),
        Stored("output_norm.weight", (hidden,), "f32"),
        *([] if tied else [Stored("output.weight", (300, hidden), dtype)]),
    ]
    for layer in range(layers):
        at = f"blk.{layer}."
        found.append(Stored(f"{at}attn_norm.weight", (hidden,), "f32"))
        parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        found += [Stored(f"{at}{part}.weight", (hidden, hidden), dtype) for part in parts]
    return found


def plan(
    kind: str, tensors: list[Stored] | None = None, facts: ModelFacts = LLAMA, **asked
) -> dict[str, Choice]:
    wanted = None if kind == "COPY" else file_type(kind)
    found = choose_types(tensors or model(facts.num_layers), facts, MixtureOptions(wanted, **asked))
    return {choice.name: choice for choice in found}


def types(choices: dict[str, Choice], part: str) -> list[str]:
    return [choice.target.name for name, choice in choices.items() if part in name]


def test_a_mixture_of_four_bits():
    found = plan("Q4_K_M")
    assert found["output.weight"].target.name == "q6_k"
    assert found["token_embd.weight"].target.name == "q4_k"
    assert found["blk.3.attn_norm.weight"].target.name == "f32"
    more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    expected = ["q6_k" if layer in more else "q4_k" for layer in range(32)]
    assert types(found, "attn_v") == types(found, "ffn_down") == expected
    assert set(types(found, "attn_q") + types(found, "ffn_up")) == {"q4_k"}


def test_a_shared_embedding_is_treated_as_the_head():
    assert plan("Q4_K_M", model(tied=True))["token_embd.weight"].target.name == "q6_k"
    assert plan("IQ4_XS", model(tied=True))["token_embd.weight"].target.name == "q6_k"


def test_what_experts_grouping_size_and_importance_change():
    grouped = ModelFacts("llama", num_layers=32, num_heads=32, num_kv_heads=8)
    alone = ModelFacts("llama", num_layers=32, num_heads=32, num_kv_heads=32)
    eight = ModelFacts("llama", num_layers=32, num_experts=8, num_heads=32, num_kv_heads=8)
    large = ModelFacts("llama", num_layers=80, num_heads=64, num_kv_heads=8)
    assert set(types(plan("Q2_K", facts=grouped), "attn_v")) == {"q4_k"}
    assert set(types(plan("Q2_K", facts=alone), "attn_v")) == {"q3_k"}
    assert set(types(plan("Q2_K", facts=eight), "attn_v")) == {"q8_0"}
    assert set(types(plan("Q2_K", facts=large), "attn_v")) == {"q5_k"}
    assert set(types(plan("Q4_K_M", facts=large), "attn_v")) == {"q5_k", "q6_k"}
    assert types(plan("Q4_0", has_imatrix=True), "ffn_down")[:5] == ["q4_1"] * 4 + ["q4_0"]
    assert set(types(plan("Q4_0"), "ffn_down")) == {"q4_0"}
    assert types(plan("IQ4_XS"), "ffn_down")[:5] == ["q5_k"] * 4 + ["iq4_xs"]


def test_stacked_experts_become_mxfp4():
    tensors = [Stored("blk.0.ffn_up_exps.weight", (4, 64, 64)), Stored("blk.0.attn_q.weight", (64, 64))]
    tensors += [Stored("token_embd.weight", (64, 64)), Stored("output.weight", (64, 64))]
    found = plan("MXFP4_MOE", tensors)
    assert found["blk.0.ffn_up_exps.weight"].target.name == "mxfp4"
    assert {choice.target.name for name, choice in found.items() if "exps" not in name} == {"q8_0"}


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_every_type_has_a_plan_in_which_every_row_fits(kind):
    for hidden in (512, 480, 500):
        for choice in plan(kind, model(hidden=hidden)).values():
            assert choice.shape[-1] % choice.target.block == 0
            assert choice.nbytes == choice.target.shape_bytes(choice.shape)
            assert choice.fell_back == (choice.shape[-1] % choice.wanted.block != 0)


def test_floats_know_no_mixture():
    for kind in ("F32", "F16", "BF16"):
        found = plan(kind, model(dtype="f32"))
        assert {c.target.name for c in found.values() if len(c.shape) > 1} == {kind.lower()}
        assert {c.target.name for c in found.values() if len(c.shape) == 1} == {"f32"}


def test_rows_that_no_block_divides():
    assert fitting(DTYPES["q4_k"], 256).name == "q4_k"
    assert {kind: fitting(DTYPES[kind], 96).name for kind in FALLBACKS} == FALLBACKS
    assert {fitting(DTYPES[kind], 100).name for kind in (*FALLBACKS, "q8_0", "mxfp4")} == {"f16"}
    # The head wants q8_0 where the rows are odd, as llama.cpp does.
    assert plan("Q4_K_M", model(hidden=480))["output.weight"].target.name == "q8_0"


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blk.0.attn_q.weight", (64, 64), True),
        ("blk.0.ffn_up_exps.weight", (4, 64, 64), True),
        ("blk.0.attn_q.bias", (64,), False),
        ("blk.0.attn_norm.weight", (64,), False),
        ("blk.0.attn_q_norm.weight", (8, 64), False),
        ("blk.0.ffn_gate_inp.weight", (8, 64), False),
        ("blk.0.ssm_conv1d.weight", (64, 4), False),
        ("position_embd.weight", (64, 64), False),
        ("token_types.weight", (2, 64), False),
        ("per_layer_model_proj.weight", (64, 64), False),
        ("rope_freqs.weight", (64,), False),
        ("v.weight", (1, 64), False),
        ("v.weight", (64, 1), True),
    ],
)
def test_which_tensors_are_matrices(name, shape, expected):
    assert may_quantize(name, shape, "llama") == expected


def test_order_is_by_layer_and_then_by_name():
    names = ["blk.10.a", "blk.2.b", "output.weight", "blk.2.a", "a"]
    assert in_order(names) == ["a", "output.weight", "blk.2.a", "blk.2.b", "blk.10.a"]


def test_what_the_user_asks_for():
    overrides = (Override.parse(r"blk\.0\.=q8_0"), Override.parse("FFN_DOWN=Q5_K"))
    found = plan("Q4_K_S", overrides=overrides)
    assert set(types(found, "blk.0.")) == {"q8_0", "f32"}
    assert set(types(found, "ffn_down")) == {"q8_0", "q5_k"}
    # A tensor that the user names is not counted: the next four values get more bits.
    assert types(found, "attn_v")[:6] == ["q8_0"] + ["q5_k"] * 4 + ["q4_k"]
    assert set(types(plan("Q4_K_M", pure=True), ".weight")) == {"q4_k", "f32"}
    assert plan("Q4_K_M", keep_head=True)["output.weight"].target.name == "f16"
    found = plan("Q4_K_M", head=DTYPES["q8_0"], embedding=DTYPES["f16"])
    assert (found["output.weight"].target.name, found["token_embd.weight"].target.name) == ("q8_0", "f16")
    assert plan("Q4_K_M", model(tied=True), head=DTYPES["q8_0"])["token_embd.weight"].target.name == "q8_0"
    found = plan(
        "Q4_K_M", exact={"blk.1.attn_q.weight": DTYPES["q2_k"]}, overrides=(Override.parse("attn_q=q8_0"),)
    )
    assert types(found, "attn_q.")[:3] == ["q8_0", "q2_k", "q8_0"]
    assert set(types(plan("F16", overrides=(Override.parse("attn_v=q8_0"),)), "attn_v")) == {"q8_0"}


def test_copying_changes_nothing_but_what_is_asked_for():
    tensors = model(dtype="q8_0")
    assert list(plan("COPY", tensors)) == [tensor.name for tensor in tensors]
    assert not any(choice.changes for choice in plan("COPY", tensors).values())
    found = plan("COPY", tensors, overrides=(Override.parse("ffn_up=f16"),))
    assert [name for name, choice in found.items() if choice.changes] == [n for n in found if "ffn_up" in n]


def test_which_tensors_need_importance():
    assert {c.target.name for c in plan("IQ2_XS").values() if c.needs_imatrix} == {"iq2_xs"}
    assert {c.target.name for c in plan("Q2_K_S").values() if c.needs_imatrix} == {"q2_k"}
    assert not any(c.needs_imatrix for c in plan("Q2_K").values())
    assert not plan("Q2_K_S")["token_embd.weight"].needs_imatrix
    assert not any(c.needs_imatrix for c in plan("IQ2_XS", model(dtype="iq2_xs")).values() if not c.changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attn", "is not REGEX=TYPE"),
        ("=q8_0", "is not REGEX=TYPE"),
        ("attn=", "is not REGEX=TYPE"),
        ("(=q8_0", "is not a regular expression"),
        ("attn=q9_0", "a tensor cannot become 'q9_0'"),
        ("attn=Q4_K_M", "a tensor cannot become 'Q4_K_M'"),
        ("attn=i32", "a tensor cannot become 'i32'"),
    ],
)
def test_bad_overrides(text, message):
    with pytest.raises(InvalidRequest, match=message):
        Override.parse(text)


def test_an_expression_that_decides_nothing():
    with pytest.raises(InvalidRequest, match="matches no tensor of this model") as caught:
        plan("Q8_0", overrides=(Override.parse("ffn_dwon=q4_k"),))
    assert caught.value.hint is not None
    assert "ffn_down" in caught.value.hint
    with pytest.raises(InvalidRequest, match=r"blk\.0\.attn_norm\.weight always stays as it is"):
        plan("Q8_0", overrides=(Override.parse("attn_norm=q4_k"),))


def test_names_of_types():
    assert file_type("q4_k_m") is file_type("Q4_K") is FILE_TYPES["Q4_K_M"]
    assert file_type("iq4-xs").number == 30
    assert tensor_type("Q4_K") is DTYPES["q4_k"]
    with pytest.raises(InvalidRequest, match="there is no type 'Q4KM'") as caught:
        file_type("Q4KM")
    assert caught.value.hint is not None
    assert "Q4_K_M" in caught.value.hint
    with pytest.raises(InvalidRequest) as caught:
        tensor_type("q4_k_m")
    assert caught.value.hint == "q4_k_m is a mixture; a single tensor can be q4_k"


def test_the_tables_name_types_that_exist():
    for rule in RULES:
        assert rule.files <= set(FILE_TYPES)
        assert rule.to is None or rule.to in DTYPES
    assert set(FALLBACKS) | set(FALLBACKS.values()) <= set(DTYPES)
    numbers = Counter(kind.number for kind in FILE_TYPES.values())
    assert {number for number, count in numbers.items() if count > 1} == {FILE_TYPES["MXFP4_MOE"].number}


def test_recipes_are_free_of_torch():
    import subprocess
    import sys

    code = "import sys, mull.quant.mixture; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
