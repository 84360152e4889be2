"""`llm show`: what a model is, from its headers and its Modelfile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from ..server.facts import Facts as Facts
from ..server.facts import parameter_rows
from .formats import bits_in_words, columns, human_number, printable
from .headers import bits_per_weight, context_length, embedding_length, open_target, quantization
from .options import Model
from .terminal import for_screen

if TYPE_CHECKING:
    from ..models.checkpoint.base import Checkpoint

Rows = list[list[str]]

_ONE_PART = (
    "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
)
_HEAD = 2  # lines of a system prompt or licence that stand in the summary
_CELL = 10  # characters of an array that stand in the metadata table


def command(
    model: Model,
    modelfile: Annotated[bool, typer.Option("--modelfile", help="Print the Modelfile.")] = False,
    parameters: Annotated[bool, typer.Option("--parameters", help="Print the parameters.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Print the chat template.")] = False,
    system: Annotated[bool, typer.Option("--system", help="Print the system message.")] = False,
    license_: Annotated[bool, typer.Option("--license", help="Print the licence.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Add all metadata and tensors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a model is: its size, precision, abilities, parameters and licence.

    Reads headers only, whatever the model's size.

    \b
    Examples:
      llm show pocket
      llm show ./qwen3-8b-q4_k_m.gguf -v
      llm show mymodel --modelfile > Modelfile
      llm show pocket --json
    """
    parts = {
        "modelfile": modelfile,
        "parameters": parameters,
        "template": template,
        "system": system,
        "license": license_,
    }
    wanted = [name for name, flag in parts.items() if flag]
    if len(wanted) > 1:
        raise InvalidRequest(_ONE_PART)
    with open_target(model) as (target, checkpoint):
        facts = Facts(target, checkpoint)
        if as_json:
            import json

            print(json.dumps(_as_json(facts, verbose=verbose), indent=2, ensure_ascii=False))
        elif wanted:
            text = getattr(facts, wanted[0])()
            if text:
                print(for_screen(text.rstrip("\n")))
        else:
            print("\n".join(sections(facts, verbose=verbose)))


def sections(facts: Facts, *, verbose: bool) -> list[str]:
    """Return the summary's lines, under headings."""
    checkpoint = facts.checkpoint
    metadata = [[key, _cell(value)] for key, value in facts.metadata().items()] if verbose else []
    infos = checkpoint.infos.values() if verbose else ()
    tensors = [[info.name, info.dtype.upper(), str(list(info.shape))] for info in infos]
    sections: list[tuple[str, Sequence[Sequence[str]]]] = [
        ("Model", _model_rows(checkpoint)),
        ("Capabilities", [[name] for name in facts.capabilities()]),
        ("Adapters", [[str(path)] for path in facts.contents.adapters] if facts.contents else []),
        ("Parameters", parameter_rows(facts.values())),
        ("Metadata", metadata),
        ("Tensors", tensors),
        ("System", _head(facts.system())),
        ("License", _head(facts.license())),
    ]
    lines = []
    for title, rows in sections:
        if rows:
            safe = [[printable(cell) for cell in row] for row in rows]
            lines += [f"  {title}", *(f"    {line}" for line in columns(safe)), ""]
    return lines


def _model_rows(checkpoint: Checkpoint) -> Rows:
    rows = [["architecture", checkpoint.architecture]]
    if checkpoint.num_parameters:
        rows.append(["parameters", human_number(checkpoint.num_parameters)])
    if length := context_length(checkpoint):
        rows.append(["context length", str(length)])
    if length := embedding_length(checkpoint):
        rows.append(["embedding length", str(length)])
    bits = bits_per_weight(checkpoint)
    if bits is not None:
        rows.append(["quantization", quantization(checkpoint), bits_in_words(bits)])
    return rows


def _head(text: str) -> Rows:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [[line] for line in lines[:_HEAD]] + ([["..."]] if len(lines) > _HEAD else [])


def _cell(value: object) -> str:
    """Write a metadata value in one cell; arrays are cut to about ten characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    shown: list[str] = []
    width = 1
    for item in value:
        text = _cell(item)
        width += len(text) + (2 if shown else 0)
        if shown and width > _CELL:
            break
        shown.append(text)
    rest = len(value) - len(shown)
    return f"[{' '.join(shown)}{f' ...+{rest} more' if rest else ''}]"


def _as_json(facts: Facts, *, verbose: bool) -> dict[str, object]:
    checkpoint, entry, contents = facts.checkpoint, facts.target.entry, facts.contents
    bits = bits_per_weight(checkpoint)
    out: dict[str, object] = {
        "name": entry.name.short() if entry else None,
        "digest": entry.digest if entry else None,
        "modified": entry.modified.isoformat() if entry else None,
        "path": str(facts.target.path.absolute()),
        "details": {
            "format": checkpoint.format,
            "family": checkpoint.architecture,
            "parameter_size": human_number(checkpoint.num_parameters),
            "parameter_count": checkpoint.num_parameters,
            "quantization_level": quantization(checkpoint),
            "bits_per_weight": None if bits is None else round(bits, 4),
            "bits_in_words": None if bits is None else bits_in_words(bits),
            "context_length": context_length(checkpoint),
            "embedding_length": embedding_length(checkpoint),
            "size": checkpoint.nbytes,
        },
        "capabilities": facts.capabilities(),
        "modelfile": facts.modelfile(),
        "parameters": facts.values(),
        "template": facts.template(),
        "system": facts.system(),
        "license": facts.license(),
        "messages": [{"role": r, "content": c} for r, c in contents.messages] if contents else [],
        "model_info": {k: v for k, v in facts.metadata().items() if verbose or not isinstance(v, list)},
    }
    if verbose:
        infos = checkpoint.infos.values()
        out["tensors"] = [{"name": i.name, "type": i.dtype.upper(), "shape": list(i.shape)} for i in infos]
    return out
