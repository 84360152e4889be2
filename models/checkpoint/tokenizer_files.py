"""The JSON files beside a Hugging Face tokenizer: which tokens they add, and what they call the special ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import TokenizerError

# Far above any real vocabulary; it keeps a damaged id from costing memory.
MAX_SIZE = 1 << 24


@dataclass(frozen=True, slots=True)
class AddedEntry:
    """A token that tokenizer_config.json or added_tokens.json puts on top of the model's own."""

    id: int
    text: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False


def added_entries(folder: Path, config: Mapping[str, object]) -> list[AddedEntry]:
    """Return the tokens that the folder's JSON files add, by id; config: its tokenizer_config.json."""
    found: dict[int, AddedEntry] = {}
    for text, number in read_json(folder / "added_tokens.json").items():
        if isinstance(number, int) and 0 <= number < MAX_SIZE:
            found[number] = AddedEntry(number, text, special=False)
    listed = config.get("added_tokens_decoder")
    for key, entry in listed.items() if isinstance(listed, dict) else ():
        if key.isdecimal() and int(key) < MAX_SIZE and isinstance(entry, dict) and entry.get("content"):
            flags = {name: bool(entry.get(name, False)) for name in ("special", "lstrip", "rstrip")}
            found[int(key)] = AddedEntry(int(key), str(entry["content"]), **flags)
    return [found[number] for number in sorted(found)]


def declared_ends(*sources: Mapping[str, object]) -> list[int]:
    """Return the `eos_token_id` of generation_config.json, config.json and the like, each a number or a list."""
    found = [source.get("eos_token_id") for source in sources]
    return [i for value in found for i in (value if isinstance(value, list) else [value]) if type(i) is int]


def token_text(config: Mapping[str, object], key: str) -> str:
    """Return the text of a special token such as `bos_token`, empty where the file names none."""
    value = config.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def read_json(path: Path) -> dict[str, object]:
    """Return a JSON object, empty where the file is absent; raise TokenizerError if it is broken."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise TokenizerError(f"{path.name} holds no JSON object")
    return value


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise TokenizerError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror}") from None
