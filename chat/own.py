"""What a model's own files say of how to talk to it: its chat template, and the defaults of its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import InvalidRequest, TemplateError
from ..models.checkpoint.base import Checkpoint
from ..runtime.tokenizer.tokenizer import Tokenizer
from .go_template.template import is_go
from .options import OPTIONS, Sourced, from_user, merge, model_defaults, our_defaults, sampling_params
from .template import Template
from .templates import compile_template


@dataclass(frozen=True, slots=True)
class OwnTemplate:
    """The chat template of a model; error: what is wrong with it; note: what its user should know of it."""

    template: Template | None = None
    error: TemplateError | None = None
    note: str | None = None


def own_template(checkpoint: Checkpoint, said: str | None, tokenizer: Tokenizer) -> OwnTemplate:
    """Return the chat template, the Modelfile's or else the checkpoint's own, or what is wrong with it.

    One of Go's that cannot be used gives way to the checkpoint's own. A model whose template does not compile still
    continues raw prompts.
    """
    source = said or checkpoint.chat_template
    if not source:
        return OwnTemplate()
    bos, eos = (
        "" if token is None else tokenizer.token_text(token) for token in (tokenizer.bos_id, tokenizer.eos_id)
    )
    name = "Modelfile" if said else checkpoint.path.name
    try:
        return OwnTemplate(compile_template(source, bos=bos, eos=eos, path_name=name))
    except TemplateError as error:
        if said and checkpoint.chat_template and is_go(said):
            other = own_template(checkpoint, None, tokenizer)
            if other.template is None:
                return OwnTemplate(error=error)
            note = f"the Modelfile's template cannot be used ({error.message}); the model file's own is"
            return replace(other, note=note)
        return OwnTemplate(error=error)


def own_defaults(checkpoint: Checkpoint, parameters: Mapping[str, object]) -> dict[str, Sourced]:
    """Return every option's default: mull's, then the model's own files', then the Modelfile's."""
    source = "gguf" if checkpoint.format == "gguf" else "generation_config"
    layers = [our_defaults(), model_defaults(checkpoint.generation, source)]
    layers.append(from_user({k: v for k, v in parameters.items() if k in OPTIONS}, "modelfile"))
    merged = merge(*layers)
    try:
        sampling_params(merged)
    except InvalidRequest as error:
        where = merged[error.field].source if error.field in merged else "model"
        raise InvalidRequest(f"the {where}'s {error.message}", field=error.field) from None
    return merged
