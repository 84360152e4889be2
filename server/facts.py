"""What a model is, as its headers and its Modelfile say: texts and tables for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ..models.checkpoint.base import Checkpoint
    from ..registry.create import Details
    from ..registry.modelfile import Modelfile
    from ..registry.target import Target

# Files that turn images or sound into embeddings: kept beside a model, run by no architecture of ours.
_PROJECTORS = ("clip", "mmproj")


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
        return written_parameters(self.values())

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

    def metadata(self) -> dict[str, object]:
        """Return the metadata, of a folder its configuration, sorted."""
        checkpoint = self.checkpoint
        source = checkpoint.metadata if checkpoint.format == "gguf" else checkpoint.config
        return dict(sorted(source.items()))

    def _token_id(self, text: str) -> int | None:
        """Look a text up in the vocabulary."""
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self.checkpoint)
        return self._vocabulary.get(text)


def written_parameters(values: Mapping[str, object]) -> str:
    """Write parameters one per line, lists one per item."""
    return "\n".join(f"{name:<30} {value}" for name, value in parameter_rows(values))


def parameter_rows(values: Mapping[str, object]) -> list[list[str]]:
    """Return names and values as PARAMETER takes them, lists one row per item."""
    rows = []
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            rows.append([name, _written(item)])
    return rows


def inspect(path: Path) -> Details:
    """Describe a model file; raise a CheckpointError unless it opens and its architecture is supported."""
    from ..models.checkpoint.open import open_checkpoint
    from ..models.checkpoint.summary import context_length, human_number, quantization
    from ..models.load import find_architecture
    from ..registry.create import Details

    with open_checkpoint(path) as checkpoint:
        if checkpoint.architecture not in _PROJECTORS:
            find_architecture(checkpoint)
        count = checkpoint.num_parameters
        return Details(
            format=checkpoint.format,
            family=checkpoint.architecture,
            parameter_size=human_number(count) if count else "",
            quantization=quantization(checkpoint),
            context_length=context_length(checkpoint),
        )


def check_modelfile(modelfile: Modelfile) -> None:
    """Raise ModelfileError for a template or an option with which the model could not be run."""
    from ..chat.options import OPTIONS, from_user, sampling_params
    from ..chat.templates import compile_template
    from ..chat.thinking import THINK_OPTIONS, think_options
    from ..errors import InvalidRequest, TemplateError
    from ..registry.parameters import parse_parameter

    for command in modelfile.commands:
        try:
            if command.name == "template":
                compile_template(command.value, path_name="TEMPLATE")
            elif command.name == "parameter" and command.args[0] in OPTIONS:
                option = {command.args[0]: parse_parameter(*command.args)}
                sampling_params(from_user(option, "modelfile"))
            elif command.name == "parameter" and command.args[0] in THINK_OPTIONS:
                think_options({command.args[0]: parse_parameter(*command.args)})
        except (InvalidRequest, TemplateError) as error:
            raise command.error(error.message) from error


def _written(value: object) -> str:
    """Write a value as PARAMETER takes it, texts in quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


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
