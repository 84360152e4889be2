"""What a model would be given and would do for a prompt, and why: worked out from headers and tokenizer, no weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..chat.families.detect import reasons
from ..chat.go_template.template import GoTemplate
from ..chat.message import Message
from ..chat.options import Sourced, from_user, merge, sampling_params
from ..chat.request import ChatRequest
from ..chat.session import Prompt
from ..chat.speech import Speech, load_notes, speech_of, with_own_messages
from ..chat.thinking import THINK_OPTIONS, ThinkOptions
from ..errors import TemplateError
from ..models.cache import CacheSpec
from ..models.checkpoint.open import open_checkpoint
from ..models.checkpoint.safetensors import template_file
from ..models.checkpoint.summary import quantization
from ..registry.target import Target, find_target
from ..runtime.backend import Backend
from ..runtime.load_options import LoadOptions, with_parameters
from ..runtime.memory import RESERVE
from ..runtime.thinking.plan import ThinkingPlan, zones
from ..runtime.tokenizer.load import load_tokenizer
from ..runtime.tokenizer.tokenizer import Tokenizer
from ..settings import Settings
from .explained import (
    Context,
    Explanation,
    Kernels,
    Memory,
    Rendered,
    Setting,
    Stops,
    TemplateFacts,
    Thoughts,
    Token,
    Tools,
)

if TYPE_CHECKING:
    from ..models.checkpoint.base import Checkpoint
    from ..runtime.grammar.constraint import Constraint

_DTYPES = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}
_SOURCES = {"request": "flag", "mull": "default"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and by whom it was set.

    text: the prompt; None: an empty one stands for it; options: what the command line sets, kept: what the
    conversation set before; messages: what was said before; load: how to load, as the command line says; num_ctx: the
    conversation's own.
    """

    model: str
    text: str | None
    load: LoadOptions
    raw: bool = False
    system: str | None = None
    options: Mapping[str, object] | None = None
    kept: Mapping[str, object] | None = None
    messages: tuple[Message, ...] = ()
    format: Constraint | None = None
    num_ctx: int | None = None

    @property
    def given(self) -> dict[str, object]:
        """All options that are set, the command line's last."""
        return {**(self.kept or {}), **(self.options or {})}

    def request(self) -> ChatRequest:
        """Return what the model would be asked."""
        if self.raw:
            return ChatRequest(raw=self.text or "", options=self.given, format=self.format)
        system = () if self.system is None else (Message("system", self.system),)
        messages = (*system, *self.messages, Message("user", self.text or ""))
        return ChatRequest(messages, options=self.given, format=self.format)


def explain(question: Question, settings: Settings) -> Explanation:
    """Work everything out; raises a MullError where the model could not be loaded so at all."""
    target = find_target(question.model, settings)
    with open_checkpoint(target.path) as checkpoint:
        return _Explaining(question, settings, target, checkpoint).all()


class _Explaining:
    """One explanation in the making."""

    def __init__(
        self, question: Question, settings: Settings, target: Target, checkpoint: Checkpoint
    ) -> None:
        self.question, self.settings, self.target = question, settings, target
        said = target.contents
        self.said: Mapping[str, object] = said.parameters if said is not None else {}
        load = question.load
        load = replace(load, num_ctx=load.num_ctx or question.num_ctx, cpu=load.cpu or settings.cpu)
        self.load = with_parameters(load, self.said)
        self.backend = Backend(checkpoint, self.load)
        self.checkpoint = self.backend.checkpoint
        self.tokenizer: Tokenizer = load_tokenizer(self.checkpoint)
        self.speech: Speech = speech_of(
            self.checkpoint, self.tokenizer, said, settings.think_budget, settings.think_max
        )
        self.request = with_own_messages(question.request(), said)
        self.thinking: ThinkOptions = self.speech.planner.options(self.request)

    def all(self) -> Explanation:
        """Put the parts together."""
        prompt, error = self._prompt()
        thoughts, prompt = self._thoughts(prompt)
        context = self._context(prompt)
        return Explanation(
            model=self.question.model,
            path=str(self.target.path.absolute()),
            architecture=self.checkpoint.architecture,
            quantization=quantization(self.checkpoint),
            settings=self._settings(),
            template=self._template(error),
            tools=self._tools(),
            thinking=thoughts,
            stop=self._stops(),
            context=context,
            kernels=self._kernels(),
            memory=self._memory(),
            prompt=None if prompt is None else self._rendered(prompt),
            notes=self._notes(context),
        )

    def _prompt(self) -> tuple[Prompt | None, TemplateError | None]:
        if self.request.raw is None and self.speech.own.error is not None:
            return None, self.speech.own.error
        try:
            return self.speech.session.prompt(self.request, self.thinking), None
        except TemplateError as error:
            return None, error

    def _settings(self) -> tuple[Setting, ...]:
        """Return each setting, what it is, and who set it."""
        sampling = {name: value for name, value in self.question.given.items() if name not in THINK_OPTIONS}
        merged = merge(self.speech.defaults, from_user(sampling, "request"))
        found = [Setting(name, self._value(one), self._source(name, one)) for name, one in merged.items()]
        thinking = self.speech.planner.sourced(self.request) if self.speech.family.can_think else {}
        found += [Setting(name, one.value, self._source(name, one)) for name, one in thinking.items()]
        if self.settings.think_max is not None:
            found.append(Setting("think_max", self.settings.think_max, "environment"))
        return (*found, *self._loading())

    def _value(self, sourced: Sourced) -> object:
        return list(sourced.value) if isinstance(sourced.value, tuple) else sourced.value

    def _source(self, name: str, sourced: Sourced) -> str:
        if sourced.source == "request" and name not in (self.question.options or {}):
            return "session"
        return _SOURCES.get(sourced.source, sourced.source)

    def _loading(self) -> list[Setting]:
        """Return how the model would be loaded."""
        asked, backend = self.question.load, self.backend
        plain = LoadOptions()

        def source(name: str) -> str:
            return "default" if getattr(asked, name) == getattr(plain, name) else "flag"

        threads = "flag" if asked.threads else "modelfile" if self.load.threads else "default"
        cpu = "environment" if self.settings.cpu is not None else "default"
        drafts = self.target.contents.drafts if self.target.contents is not None else ()
        draft = asked.draft or (str(drafts[0]) if drafts else None)
        return [
            Setting("num_ctx", backend.plan.context_length, self._context_source()),
            Setting("num_thread", backend.threads, threads),
            Setting("device", str(backend.device), source("device")),
            Setting("dtype", _DTYPES.get(str(backend.dtype), str(backend.dtype)), source("dtype")),
            Setting("cpu", backend.isa.name if backend.isa is not None else "none", cpu),
            Setting("cache_type_k", backend.cache_types.keys, source("cache_type_k")),
            Setting("cache_type_v", backend.cache_types.values, source("cache_type_v")),
            Setting("quantize", asked.quantize, source("quantize")),
            Setting("speculate", asked.speculate, source("speculate")),
            Setting("draft", draft, source("draft") if asked.draft else "modelfile" if draft else "default"),
        ]

    def _template(self, error: TemplateError | None) -> TemplateFacts:
        own, family, contents = self.speech.own, self.speech.family, self.target.contents
        template = own.template
        if contents is not None and contents.template and own.note is None:
            source = "modelfile"
        elif self.checkpoint.format == "gguf":
            source = "gguf"
        else:
            source = template_file(self.checkpoint.path) or "none"
        if template is None and error is None:
            source = "none"
        text = template.source if template is not None else ""
        return TemplateFacts(
            source=source,
            language="none" if template is None else "go" if isinstance(template, GoTemplate) else "jinja",
            lines=len(text.splitlines()),
            family=family.name,
            reasons=reasons(
                family, text if template else None, self.tokenizer.token_id, self.checkpoint.architecture
            ),
            reads=sorted(template.variables) if template is not None else [],
            error=None if error is None else error.message,
            note=own.note,
        )

    def _tools(self) -> Tools:
        template, syntax = self.speech.own.template, self.speech.session.syntax
        if template is None:
            return Tools("none", None, 0, results=False, forced=False)
        described = "by the template" if template.takes_tools else "in the system message"
        return Tools(described, syntax.name, template.num_calls, template.takes_results, syntax.is_writable)

    def _thoughts(self, prompt: Prompt | None) -> tuple[Thoughts, Prompt | None]:
        """Return what becomes of thoughts, and the prompt, which asks for none where no budget is left."""
        family, thinking = self.speech.family, self.thinking
        if not family.can_think or prompt is None:
            return Thoughts(can_think=family.can_think, mode=thinking.mode), prompt
        plan, notes = self._plan(prompt, thinking)
        if plan is not None and plan.budget == 0 and thinking.mode != "off":
            thinking = replace(thinking, mode="off")
            prompt = self.speech.session.prompt(self.request, thinking)
            plan, _ = self._plan(prompt, thinking)
        passed = family.switch.variables(thinking.mode, thinking.level, thinking.tokens)
        shown = Thoughts(
            can_think=True,
            mode=thinking.mode,
            tags=(str(family.open_tag).strip(), str(family.close_tag).strip()),
            opened=prompt.opened,
            passed={} if self.request.raw is not None else dict(passed),
            window=self._window(prompt),
            history=self._history(thinking),
            notes=list(notes),
        )
        return (shown if plan is None else self._limited(shown, plan)), prompt

    def _limited(self, shown: Thoughts, plan: ThinkingPlan) -> Thoughts:
        """Add what the plan holds."""
        found = zones(plan, plan.budget)
        return replace(
            shown,
            enforced=True,
            budget=plan.budget,
            requested=plan.requested,
            minimum=plan.minimum,
            rounds=plan.rounds,
            waits=[self._text(ids) for ids in plan.waits] if plan.rounds else [],
            soft=found.soft,
            landing=found.land,
            hard=found.hard,
            message=self._text(found.message),
            closes=self._text(plan.marks.close),
            loop=plan.loop,
            exit=plan.exit,
        )

    def _plan(self, prompt: Prompt, thinking: ThinkOptions) -> tuple[ThinkingPlan | None, tuple[str, ...]]:
        window = max(self._window(prompt), 1)
        return self.speech.planner.plan(self.request, thinking, window, opened=prompt.opened)

    def _window(self, prompt: Prompt) -> int:
        """Return the most tokens that the reply can have."""
        length = self.backend.plan.context_length
        own = {name: value for name, value in self.question.given.items() if name not in THINK_OPTIONS}
        most = sampling_params(merge(self.speech.defaults, from_user(own, "request"))).max_tokens
        return max(min(length - len(prompt.ids), most or length), 0)

    def _history(self, thinking: ThinkOptions) -> str:
        if thinking.history != "auto":
            return thinking.history
        return "strip" if self.speech.family.strip_history else "keep"

    def _stops(self) -> Stops:
        ids = sorted(self.tokenizer.eos_ids)
        given = self.question.given.get("stop") or self.speech.defaults["stop"].value or ()
        texts = [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else []
        return Stops([self._token(token) for token in ids], [str(text) for text in texts])

    def _context_source(self) -> str:
        if self.question.load.num_ctx is not None:
            return "flag"
        if self.question.num_ctx is not None:
            return "session"
        if self.load.num_ctx is not None:
            return "modelfile"
        return "memory" if self.backend.plan.limited_by else "model"

    def _context(self, prompt: Prompt | None) -> Context:
        plan, used = self.backend.plan, 0 if prompt is None else len(prompt.ids)
        return Context(
            length=plan.context_length,
            own=self.backend.config.max_positions,
            source=self._context_source(),
            prompt=used,
            left=plan.context_length - used,
        )

    def _kernels(self) -> Kernels:
        backend = self.backend
        return Kernels(
            description=backend.description,
            computes=f"native, {backend.isa.name}" if backend.isa is not None else "torch",
            cache_type_k=backend.cache_types.keys,
            cache_type_v=backend.cache_types.values,
            kept=sorted(set(backend.kept_types()) & set(self.checkpoint.dtype_counts())),
        )

    def _memory(self) -> Memory:
        from ..kernels.device import available_memory

        plan, config = self.backend.plan, self.backend.config
        spec = CacheSpec(config.num_layers, config.num_kv_heads, config.head_dim)
        return Memory(
            file=self.checkpoint.nbytes,
            weights=plan.weight_bytes,
            cache=plan.cache_bytes,
            cache_per_token=spec.token_bytes(self.backend.cache_types),
            reserve=RESERVE,
            free=available_memory(self.backend.device),
            unpacked_at_each_use=not plan.hold,
        )

    def _rendered(self, prompt: Prompt) -> Rendered:
        return Rendered(prompt.text, prompt.opened, [self._token(token) for token in prompt.ids])

    def _notes(self, context: Context) -> list[str]:
        notes = load_notes(self.backend, self.speech.own.note, self.said)
        if self.target.contents is not None and self.target.contents.adapters:
            notes.append(
                "this model has an ADAPTER, and adapters cannot be applied yet: it would not be loaded"
            )
        if context.left < 1:
            notes.append(
                f"the prompt is {1 - context.left} tokens too long for the context: it would be refused"
            )
        if self.question.text is None:
            notes.append("no prompt was given: an empty one stands for it")
        return notes

    def _token(self, token: int) -> Token:
        return Token(token, self._text((token,)), self.tokenizer.is_special(token))

    def _text(self, ids: Iterable[int]) -> str:
        """Return the text of tokens; a control token's own, and bytes that are no character as \\xNN."""
        pieces = (
            self.tokenizer.token_bytes(token) or self.tokenizer.token_text(token).encode() for token in ids
        )
        return b"".join(pieces).decode("utf-8", "backslashreplace")
