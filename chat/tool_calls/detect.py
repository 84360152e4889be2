"""Which syntax of tool calls a chat template writes, judged by the texts that it holds."""

from __future__ import annotations

from . import gemma, json_calls, minimax_m3, named, pythonic, tagged
from .syntax import Syntax

# The more particular first: a template that holds all of the texts writes this syntax.
_MARKERS: tuple[tuple[tuple[str, ...], Syntax], ...] = (
    (("｜DSML｜", "function_calls"), tagged.DSML_V32),
    (("｜DSML｜", "tool_calls"), tagged.DSML_V4),
    (("<｜tool▁calls▁begin｜>", "```json"), named.DEEPSEEK_V3),
    (("<｜tool▁calls▁begin｜>",), named.DEEPSEEK_V31),
    (("<|tool_calls_section_begin|>",), named.KIMI),
    (("<|open|>", "'call'"), tagged.KIMI_K3),
    (("]<]minimax[>[",), minimax_m3.MINIMAX_M3),
    (("<minimax:tool_call>",), tagged.MINIMAX_M2),
    (("<seed:tool_call>",), tagged.SEED),
    (("<atem:invoke",), tagged.ATEM),
    (("<tool_calls{}>", "opensource"), tagged.HUNYUAN),
    (("<|tool_call>", "call:"), gemma.GEMMA4),
    (("<start_function_call>",), gemma.FUNCTION_GEMMA),
    (("<|tool_call:begin|>",), named.SOLAR),
    (("<|channel|>commentary", "functions."), named.HARMONY),
    (("<|START_ACTION|>",), json_calls.COHERE),
    (("directly-answer", "Action:"), json_calls.COMMAND_R),
    (("<|tools_prefix|>",), json_calls.APERTUS),
    (("<|tool_call_start|>",), pythonic.LFM2),
    (("<|tool_response_start|>",), pythonic.LFM2),
    (("List of tools: [", "<|im_start|>"), pythonic.LFM2),
    (("[TOOL_CALLS]", "[ARGS]"), named.MISTRAL),
    (("[TOOL_CALLS]",), named.MISTRAL_LIST),
    (("'function call'", "role_sep"), json_calls.GIGACHAT3),
    (("<|function_call|>",), json_calls.GIGACHAT),
    (("<tool_call>", "<arg_key>"), tagged.GLM),
    (("<tool_call>", "<function="), tagged.QWEN3_CODER),
    (("<tool_calls>[",), json_calls.TOOL_CALLS),
    (("<tool_call>",), json_calls.HERMES),
    (("<TOOLCALL>",), json_calls.TOOLCALL),
    (("<tool_calls>", "<end_of_sentence>"), json_calls.MINIMAX_M1),
    (("<tool_calls>",), json_calls.TOOL_CALLS),
    (("<|tool_call|>",), json_calls.GRANITE),
    (('<function name="',), tagged.MINICPM),
    (("<function=",), named.FUNCTIONARY),
    ((">>>", "<|start_header_id|>"), named.RECIPIENT),
    (("<|start_header_id|>", '"parameters"'), json_calls.LLAMA3),
)


def find_syntax(template: str) -> Syntax | None:
    """Return the syntax of a template's tool calls; None if it writes none that is known."""
    return next((syntax for markers, syntax in _MARKERS if all(text in template for text in markers)), None)
