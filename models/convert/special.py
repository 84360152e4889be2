"""Which tokens of a folder begin, end and fill texts, and its chat templates, as GGUF's keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import CorruptFile, TokenizerError
from ..checkpoint.gguf_values import Typed, ValueType
from ..checkpoint.token_types import END_NAMES
from ..checkpoint.tokenizer_files import read_json, token_text
from .splitting import steps_of
from .vocabulary import Tokens

# GGUF's names, and those of tokenizer_config.json and config.json.
_ROLES = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "seperator": "sep",
    "padding": "pad",
    "cls": "cls",
    "mask": "mask",
}


def special_keys(
    tokens: Tokens,
    state: Mapping[str, object],
    config: Mapping[str, object],
    model_config: Mapping[str, object],
) -> dict[str, Typed]:
    """Return the ids of special tokens and whether a text gets them; model_config: of config.json.

    state, config: the parsed tokenizer.json and tokenizer_config.json. Raises TokenizerError where every text
    gets something that GGUF has no words for.
    """
    ids = tokens.ids()
    before, after = _frame(state)
    names = {role: token_text(config, f"{theirs}_token") for role, theirs in _ROLES.items()}
    if not names["bos"] and before:
        names["bos"] = before[0]
    found: dict[str, int] = {}
    for role, theirs in _ROLES.items():
        declared = model_config.get(f"{theirs}_token_id")
        index = ids.get(names[role])
        if index is None and type(declared) is int and 0 <= declared < len(tokens.texts):
            index = declared
        if index is not None:
            found[role] = index
    keys = {
        f"tokenizer.ggml.{role}_token_id": Typed(index, ValueType.UINT32) for role, index in found.items()
    }
    # a template of the file rules; the two switches count only where it adds nothing
    default = not state  # SentencePiece's own models begin with BOS unless told otherwise
    flags = {
        "bos": bool(before) if before or after else config.get("add_bos_token", default) is True,
        "eos": bool(after) if before or after else config.get("add_eos_token", False) is True,
    }
    for role, wanted in (("bos", before), ("eos", after)):
        if wanted and [ids.get(name) for name in wanted] != [found.get(role)]:
            raise TokenizerError(
                f"the tokenizer puts {' '.join(wanted)} around every text, and GGUF can say only BOS and EOS",
                hint="the folder itself can be run",
            )
        keys[f"tokenizer.ggml.add_{role}_token"] = Typed(flags[role] and role in found, ValueType.BOOL)
    return keys


def end_keys(tokens: Tokens, declared: Iterable[int], eos: object) -> dict[str, Typed]:
    """Return keys for ids that end a generation beside `eos`, where their names do not tell."""
    unknown = [
        index
        for index in dict.fromkeys(declared)
        if 0 <= index < len(tokens.texts) and index != eos and tokens.texts[index] not in END_NAMES
    ]
    roles = ("eot_token_id", "eom_token_id")
    return {
        f"tokenizer.ggml.{role}": Typed(index, ValueType.UINT32)
        for role, index in zip(roles, unknown, strict=False)
    }


def template_keys(folder: Path, default: str | None, config: Mapping[str, object]) -> dict[str, Typed]:
    """Return the chat templates, the default one and those with names.

    default: the checkpoint's; config: of tokenizer_config.json.
    """
    named: dict[str, str] = {}
    listed = config.get("chat_template")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("template"), str):
            named[str(entry.get("name", ""))] = str(entry["template"])
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        try:
            named[path.stem] = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise CorruptFile(f"{path}: cannot be read as text") from None
    plain = {"".join(c if c.isascii() and c.isalnum() else "_" for c in name): t for name, t in named.items()}
    others = {name: text for name, text in plain.items() if name and name != "default"}
    keys = {f"tokenizer.chat_template.{name}": Typed(text, ValueType.STRING) for name, text in others.items()}
    if others:
        keys["tokenizer.chat_templates"] = Typed(sorted(others), ValueType.ARRAY, ValueType.STRING)
    if default is not None:
        keys["tokenizer.chat_template"] = Typed(default, ValueType.STRING)
    return keys


def read_state(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Return a folder's parsed tokenizer.json and tokenizer_config.json, each empty where it is absent."""
    return read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json")


def _frame(state: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """Return the tokens that a tokenizer.json's template puts before and after a text."""
    for step in steps_of(state.get("post_processor")):
        single = step.get("single")
        if step.get("type") != "TemplateProcessing" or not isinstance(single, list):
            continue
        before: list[str] = []
        after: list[str] = []
        side = before
        for piece in single:
            special = piece.get("SpecialToken") if isinstance(piece, Mapping) else None
            if isinstance(special, Mapping):
                side.append(str(special.get("id")))
            else:
                side = after
        return before, after
    return [], []
