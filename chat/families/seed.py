"""Seed-OSS: the template tells the model its budget, and the model says now and then how much of it is left."""

from __future__ import annotations

from .family import Family

SEED = Family(
    name="seed",
    marker="<seed:think>",
    open_tag="<seed:think>",
    close_tag="</seed:think>",
    end_of_turn=("<seed:eos>",),
    tool_marks=("<seed:tool_call>",),
    strip_history=True,
    close_text="</seed:think>",
    # What it was trained to say when the budget is used up.
    message="\n<seed:cot_budget_reflect>I have exhausted my token budget, and now I will start answering the "
    "question.</seed:cot_budget_reflect>",
    unanswerable=("<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>"),
    budget_step=512,
)
