"""What a model's own files say of how to talk to it: its chat template, and the defaults of its options."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidRequest, TemplateError
from ..models.checkpoint.base import Checkpoint
from ..runtime.tokenizer.tokenizer import Tokenizer
from .options import OPTIONS, Sourced, from_user, merge, model_defaults, our_defaults, sampling_params
from .template import Template


def own_template(
    checkpoint: Checkpoint, own: str | None, tokenizer: Tokenizer
) -> tuple[Template | None, TemplateError | None]:
    """Return the chat template, the Modelfile's or else the checkpoint's own, or what is wrong with it.

    A model whose template does not compile still continues raw prompts.
    """
    source = own or checkpoint.chat_template
    if not source:
        return None, None
    bos, eos = (
        "" if token is None else tokenizer.token_text(token) for token in (tokenizer.bos_id, tokenizer.eos_id)
    )
    name = "Modelfile" if own else checkpoint.path.name
    try:
        return Template(source, bos=bos, eos=eos, path_name=name), None
    except TemplateError as error:
        return None, error


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
