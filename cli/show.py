"""`llm show`: what a model is, from its headers and its Modelfile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from .formats import bits_in_words, columns, human_number, printable
from .headers import bits_per_weight, context_length, embedding_length, open_target, quantization
from .options import Model
from .terminal import for_screen

if TYPE_CHECKING:
    from ..models.checkpoint.base import Checkpoint
    from ..registry.target import Target

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
            print("\n".join(_sections(facts, verbose=verbose)))


class Facts:
    """What a model's headers and its Modelfile say, as texts and rows."""

    def __init__(self, target: Target, checkpoint: Checkpoint) -> None:
        self.target = target
        self.checkpoint = checkpoint
        self.contents = target.contents
        self._vocabulary: Mapping[str, int] | None = None

    def modelfile(self) -> str:
        """Write a Modelfile that makes this model again."""
        from ..registry.modelfile import Modelfile

        path = self.target.path.absolute()
        if self.contents is None or self.target.entry is None:
            return f"FROM {path}\n"
        head = (
            '# Modelfile written by "llm show"\n'
            "# To build on this model, replace FROM with:\n"
            f"# FROM {self.target.entry.name.short()}\n\n"
        )
        return head + Modelfile.from_contents(self.contents, str(path)).render()

    def values(self) -> dict[str, object]:
        """Return the parameters that the Modelfile sets."""
        return dict(sorted(self.contents.parameters.items())) if self.contents else {}

    def parameters(self) -> str:
        """Write the parameters one per line, lists one per item."""
        return "\n".join(f"{name:<30} {value}" for name, value in _parameter_rows(self.values()))

    def template(self) -> str:
        """Return the Modelfile's template, or else the checkpoint's own."""
        own = self.contents.template if self.contents else None
        return own if own is not None else self.checkpoint.chat_template or ""

    def system(self) -> str:
        """Return the Modelfile's system message."""
        return (self.contents.system if self.contents else None) or ""

    def license(self) -> str:
        """Return the Modelfile's licences, or else the licence that the checkpoint names."""
        if self.contents and self.contents.licenses:
            return "\n".join(self.contents.licenses)
        named = self.checkpoint.metadata.get("general.license")
        return named if isinstance(named, str) else ""

    def capabilities(self) -> list[str]:
        """List what the model can be asked for, in Ollama's words."""
        from ..chat.families.detect import detect

        template = self.template()
        architecture = self.checkpoint.architecture
        if f"{architecture}.pooling_type" in self.checkpoint.metadata:
            return ["embedding"]
        found = ["completion"]
        if self.contents and self.contents.projectors:
            found.append("vision")
        if re.search(r"\btools\b", template):
            found.append("tools")
        if detect(template or None, self._token_id, architecture).can_think:
            found.append("thinking")
        return found

    def _token_id(self, text: str) -> int | None:
        """Look a text up in the vocabulary."""
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self.checkpoint)
        return self._vocabulary.get(text)


def _sections(facts: Facts, *, verbose: bool) -> list[str]:
    checkpoint = facts.checkpoint
    metadata = [[key, _cell(value)] for key, value in _metadata(checkpoint).items()] if verbose else []
    infos = checkpoint.infos.values() if verbose else ()
    tensors = [[info.name, info.dtype.upper(), str(list(info.shape))] for info in infos]
    sections: list[tuple[str, Sequence[Sequence[str]]]] = [
        ("Model", _model_rows(checkpoint)),
        ("Capabilities", [[name] for name in facts.capabilities()]),
        ("Adapters", [[str(path)] for path in facts.contents.adapters] if facts.contents else []),
        ("Parameters", _parameter_rows(facts.values())),
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


def _parameter_rows(values: Mapping[str, object]) -> Rows:
    rows = []
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            rows.append([name, _written(item)])
    return rows


def _written(value: object) -> str:
    """Write a value as PARAMETER takes it, texts in quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


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
        "model_info": {k: v for k, v in _metadata(checkpoint).items() if verbose or not isinstance(v, list)},
    }
    if verbose:
        infos = checkpoint.infos.values()
        out["tensors"] = [{"name": i.name, "type": i.dtype.upper(), "shape": list(i.shape)} for i in infos]
    return out


def _vocabulary(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the tokens that the headers name: all of a GGUF's, the added ones of a folder's."""
    from ..models.checkpoint.safetensors import read_json

    if checkpoint.format == "gguf":
        tokens = checkpoint.metadata.get("tokenizer.ggml.tokens")
        return {str(token): i for i, token in enumerate(tokens)} if isinstance(tokens, list) else {}
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    added = read_json(folder / "tokenizer_config.json", optional=True).get("added_tokens_decoder")
    if isinstance(added, dict):
        listed = list(added.values())
    else:
        named = read_json(folder / "tokenizer.json", optional=True).get("added_tokens")
        listed = named if isinstance(named, list) else []
    return {str(token.get("content")): i for i, token in enumerate(listed) if isinstance(token, dict)}


def _metadata(checkpoint: Checkpoint) -> dict[str, object]:
    """Return the metadata, of a folder its configuration, sorted."""
    source = checkpoint.metadata if checkpoint.format == "gguf" else checkpoint.config
    return dict(sorted(source.items()))
