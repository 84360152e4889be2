"""The side of a model that speaks, which needs no weights: template, family, defaults, prompts and plans of thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from ..models.checkpoint.base import Checkpoint
from ..runtime.backend import Backend
from ..runtime.tokenizer.tokenizer import Tokenizer
from .families.detect import detect
from .families.family import Family
from .message import Message
from .options import OPTIONS, Sourced
from .own import OwnTemplate, own_defaults, own_template
from .planner import Planner
from .request import ChatRequest
from .session import Session
from .thinking import THINK_OPTIONS


class Said(Protocol):
    """What a Modelfile says beside the weights."""

    @property
    def template(self) -> str | None: ...

    @property
    def system(self) -> str | None: ...

    @property
    def parameters(self) -> Mapping[str, object]: ...

    @property
    def messages(self) -> tuple[tuple[str, str], ...]: ...


@dataclass(frozen=True, slots=True)
class Speech:
    """How one model is talked to; defaults: every option's value, and who set it."""

    own: OwnTemplate
    family: Family
    defaults: Mapping[str, Sourced]
    session: Session
    planner: Planner


def speech_of(
    checkpoint: Checkpoint, tokenizer: Tokenizer, said: Said | None, budget: str | None, most: str | None
) -> Speech:
    """Read a model's own files and its Modelfile; budget, most: what the environment says of thoughts.

    Raises InvalidRequest for defaults that are out of range.
    """
    own = own_template(checkpoint, said.template if said is not None else None, tokenizer)
    template = own.template
    family = detect(
        template.source if template else None,
        tokenizer.token_id,
        checkpoint.architecture,
        template.switch if template else None,
    )
    parameters = said.parameters if said is not None else {}
    return Speech(
        own,
        family,
        own_defaults(checkpoint, parameters),
        Session(template, family, tokenizer),
        Planner(family, tokenizer, parameters, budget, most),
    )


def load_notes(backend: Backend, template_note: str | None, parameters: Mapping[str, object]) -> list[str]:
    """Return what a user should know of how a model is loaded before relying on it; often nothing."""
    plan, notes = backend.plan, []
    if plan.limited_by:
        notes.append(
            f"the context is {plan.context_length} of the model's {backend.config.max_positions} tokens, "
            "for want of memory"
        )
    if not plan.hold:
        notes.append("the weights do not fit into memory unpacked; they are unpacked at each use, slowly")
    notes += backend.notes
    notes += [] if template_note is None else [template_note]
    known = {*OPTIONS, *THINK_OPTIONS, "num_ctx", "num_thread"}
    unused = [name for name in parameters if name not in known]
    if unused:
        notes.append(f"of the Modelfile's parameters these have no effect yet: {', '.join(unused)}")
    return notes


def with_own_messages(request: ChatRequest, said: Said | None) -> ChatRequest:
    """Put the Modelfile's SYSTEM and MESSAGEs before a conversation that has no system message of its own."""
    if request.raw is not None or request.context or said is None:
        return request
    before = tuple(Message(role, text) for role, text in said.messages)  # type: ignore[arg-type]
    if said.system and not any(m.role == "system" for m in (*before, *request.messages)):
        before = (Message("system", said.system), *before)
    return replace(request, messages=(*before, *request.messages))
