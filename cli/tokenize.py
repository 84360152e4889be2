"""`llm tokenize`: a model's token ids of a text, and back."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from .formats import printable
from .inputs import read_argument, read_stdin, read_text
from .options import Model
from .terminal import for_screen

if TYPE_CHECKING:
    from ..runtime.tokenizer.tokenizer import Tokenizer


def command(
    model: Model,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]", help="The text; standard input if absent.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the text from a file, byte for byte."),
    ] = None,
    no_special: Annotated[
        bool, typer.Option("--no-special", help="Neither add BOS and EOS nor decode control tokens.")
    ] = False,
    parse_special: Annotated[
        bool, typer.Option("--parse-special", help="Read control tokens that are spelled out in the text.")
    ] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Take ids and print their text.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Print only how many tokens there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of ids (or the text).")] = False,
) -> None:
    """Turn a text into a model's token ids, or ids into text.

    Needs the tokenizer only: it works for architectures that cannot be run, and for files without weights.

    \b
    Examples:
      llm tokenize pocket "3 cups and 2 cups"
      llm tokenize qwen3 --file book.txt --count
      llm tokenize qwen3 --parse-special "<|im_start|>user" --json
      llm tokenize qwen3 --decode 9707 11 1879
    """
    given = _given(text or [], file, decode=decode)
    tokenizer = open_tokenizer(model)
    if decode:
        ids = _parse_ids(given, tokenizer.vocab_size)
        plain = tokenizer.decode(ids, skip_special=no_special)
        print(_json(plain) if as_json else for_screen(plain))
        return
    ids = tokenizer.encode(given, special=not no_special, parse_special=parse_special)
    if count:
        print(len(ids))
    elif as_json:
        print(_json(ids))
    else:
        for token_id in ids:
            print(f"{token_id:>6} -> '{_piece(tokenizer, token_id)}'")


def open_tokenizer(model: str) -> Tokenizer:
    """Load the tokenizer of a model, and nothing else of it."""
    from ..runtime.tokenizer.load import load_tokenizer
    from .headers import open_target

    with open_target(model) as (_, checkpoint):
        return load_tokenizer(checkpoint)


def _given(words: list[str], file: Path | None, *, decode: bool) -> str:
    """Return the text, or the ids, from wherever they were given."""
    if file is not None and words:
        raise InvalidRequest("give a text or --file, not both", field="file")
    if file is not None:
        return read_text(file)
    if decode and words:
        return " ".join(words)
    if len(words) > 1:
        message = f"{len(words)} texts were given"
        raise InvalidRequest(message, field="text", hint="put quotes around the text")
    if words:
        return read_argument(words[0])
    if sys.stdin.isatty():
        raise InvalidRequest("no text", field="text", hint='llm tokenize MODEL "text", or --file, or a pipe')
    return read_stdin()


def _parse_ids(text: str, vocab_size: int) -> list[int]:
    """Read ids that are separated by blanks or commas, as JSON or not."""
    ids = []
    for word in re.split(r"[\s,]+", text.strip().removeprefix("[").removesuffix("]").strip()):
        if not re.fullmatch(r"[0-9]{1,18}|", word):
            message = f"'{printable(word)}' is not a token id"
            raise InvalidRequest(message, field="ids", hint="ids look like 9707 11 1879")
        if word and int(word) >= vocab_size:
            raise InvalidRequest(f"there is no token {word}: the vocabulary has {vocab_size}", field="ids")
        ids += [int(word)] if word else []
    return ids


def _piece(tokenizer: Tokenizer, token_id: int) -> str:
    """Return a token's text on one line; bytes that are no whole character are written as \\xNN."""
    data = tokenizer.token_bytes(token_id)
    if not data:
        return printable(tokenizer.token_text(token_id))
    return printable(data.decode("utf-8", "backslashreplace"))


def _json(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
