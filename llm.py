"""LLM: open a model by name, talk to it; the one waist between everything that asks and the engine."""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

from torch import Tensor

from .chat.families.detect import detect
from .chat.message import Message
from .chat.options import OPTIONS, Sourced, from_user, merge, model_defaults, our_defaults, sampling_params
from .chat.planner import Planner
from .chat.reply import Asked, events
from .chat.request import ChatRequest
from .chat.session import Prompt, Session
from .chat.stream import Event
from .chat.template import Template
from .chat.thinking import THINK_OPTIONS, ThinkOptions
from .errors import ContextExceeded, InvalidRequest, NotSupported, TemplateError, TokenizerError
from .kernels.device import available_memory, loading, synchronize, trim_memory
from .models.base import MAX_STEP
from .models.cache import Cache
from .models.checkpoint.base import Checkpoint
from .models.checkpoint.open import open_checkpoint
from .registry.manifest import Contents
from .registry.target import Target, find_target
from .runtime.backend import BLOCK_SIZE, Backend, LoadOptions
from .runtime.blocks import BlockPool
from .runtime.engine import Engine
from .runtime.grammar.engine import GrammarEngine
from .runtime.memory import RESERVE, MemoryPlan, plan_scores
from .runtime.request import Request
from .runtime.runner import ModelRunner, run_alone
from .runtime.sampling.dry import BreakerIndex
from .runtime.sampling.sampler import Sampler
from .runtime.scheduler import Scheduler
from .runtime.thinking.plan import ThinkingPlan
from .runtime.thoughts import ThoughtCounter
from .runtime.tokenizer.load import load_tokenizer
from .runtime.tokenizer.tokenizer import Tokenizer
from .runtime.worker import Worker
from .settings import Settings, load_settings

Progressed = Callable[[int, int], None] | None

CHUNK = MAX_STEP


class LLM:
    """A loaded model. One engine runs all its requests, on a thread of its own.

    Use it as a context manager, or close() it.
    """

    def __init__(
        self, name: str, target: Target, options: LoadOptions, settings: Settings, progress: Progressed = None
    ) -> None:
        started = time.perf_counter()
        self.name = name
        self.checkpoint = open_checkpoint(target.path)
        self.contents = target.contents
        self._backend = Backend(self.checkpoint, self._with_parameters(options))
        self.checkpoint = self._backend.checkpoint  # quantized, if that was asked for
        self.config, self.threads = self._backend.config, self._backend.threads
        # The tokenizer takes Python's time, the weights mostly that of the disk and the kernels.
        with loading(), ThreadPoolExecutor(max_workers=1) as aside:
            tokenizer = aside.submit(load_tokenizer, self.checkpoint)
            self._model = self._backend.load(_counted(self.checkpoint, progress, tokenizer))
            self.tokenizer = tokenizer.result()
        self._check_vocabulary()
        self.checkpoint.trim()
        trim_memory()
        self.template, self._template_error = _template(self.checkpoint, self.contents, self.tokenizer)
        self.family = detect(
            self.template.source if self.template else None,
            self.tokenizer.token_id,
            self.checkpoint.architecture,
            self.template.switch if self.template else None,
        )
        self.defaults = _defaults(self.checkpoint, self.contents)
        self._session = Session(self.template, self.family, self.tokenizer)
        self._breakers = BreakerIndex(self.tokenizer)
        said = self.contents.parameters if self.contents is not None else {}
        self._planner = Planner(self.family, self.tokenizer, said, settings.think_budget, settings.think_max)
        others = (self.family.close_tag, self.family.tool_open, self.family.tool_close)
        self._grammars = GrammarEngine(self.tokenizer, self.family.open_tag, others)
        self._scratch: Cache | None = None
        self._filled = 0  # tokens of `bench` at the scratch cache's beginning
        self._score_bytes = 0  # that `bench` has already had for plain attention
        self.attention_bytes: int | None = None
        self._worker = Worker(self._engine())
        # Not at exit: the worker itself waits for its thread then.
        weakref.finalize(self, self._worker.stop).atexit = False
        self.load_ms = self._untold_load_ms = (time.perf_counter() - started) * 1000

    @classmethod
    def open(
        cls,
        name: str,
        options: LoadOptions | None = None,
        *,
        settings: Settings | None = None,
        progress: Progressed = None,
    ) -> LLM:
        """Load a model by its name in the store, or a .gguf file, or a folder of safetensors.

        progress: called with bytes loaded and bytes in all. Raises a MullError that says what is wrong.
        """
        settings = settings or load_settings()
        options = options or LoadOptions()
        if options.cpu is None:
            options = replace(options, cpu=settings.cpu)
        return cls(name, find_target(name, settings), options, settings, progress)

    @property
    def context_length(self) -> int:
        """The most tokens that a conversation may have."""
        return self.plan.context_length

    @property
    def notes(self) -> list[str]:
        """What a user should know about this load before relying on it; often nothing."""
        notes = []
        if self.plan.limited_by:
            notes.append(
                f"the context is {self.context_length} of the model's {self.config.max_positions} tokens, "
                "for want of memory"
            )
        if not self.plan.hold:
            notes.append("the weights do not fit into memory unpacked; they are unpacked at each use, slowly")
        notes += self._backend.notes
        known = {*OPTIONS, *THINK_OPTIONS, "num_ctx", "num_thread"}
        unused = [name for name in (self.contents.parameters if self.contents else ()) if name not in known]
        if unused:
            notes.append(f"of the Modelfile's parameters these have no effect yet: {', '.join(unused)}")
        return notes

    @property
    def backend(self) -> str:
        """What computes: the device, its kernels, and the types of the cache."""
        return self._backend.description

    @property
    def plan(self) -> MemoryPlan:
        """What the weights and the context take."""
        return self._backend.plan

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        """Answer a request event by event, ending with Done; closing the iterator stops the answer.

        Raises InvalidRequest, ContextExceeded, NotSupported or TemplateError before the first event.
        """
        if request.raw is None and self._template_error is not None:
            raise self._template_error
        request = self._with_model_messages(request)
        own = {name: value for name, value in request.options.items() if name not in THINK_OPTIONS}
        sampling = self._breakers.fill(sampling_params(merge(self.defaults, from_user(own, "request"))))
        thinking = self._planner.options(request)
        prompt, plan, notes = self._plan(request, thinking, sampling.max_tokens)
        if plan is not None and plan.budget == 0 and thinking.mode != "off":
            # The template's own way not to think costs none of the reply's tokens.
            prompt, plan, _ = self._plan(request, replace(thinking, mode="off"), sampling.max_tokens)
        identity = {} if request.id is None else {"id": request.id}
        grammar = None if request.format is None else self._grammars.compile(request.format)
        stream = self._worker.submit(
            Request(prompt.ids, sampling, self.tokenizer.eos_ids, plan, grammar, **identity)
        )
        asked = Asked(
            prompt_tokens=len(prompt.ids),
            load_ms=self._take_load_ms(),
            enforced=plan is not None or not self.family.can_think,
            notes=notes,
            format=request.format,
        )
        counter = ThoughtCounter(self.tokenizer, self.family.open_tag, self.family.close_tag, prompt.opened)
        return events(stream, self._session.parser(prompt, request), counter, asked)

    def _plan(
        self, request: ChatRequest, thinking: ThinkOptions, max_tokens: int | None
    ) -> tuple[Prompt, ThinkingPlan | None, tuple[str, ...]]:
        """Return the prompt of a request, the plan for its thoughts, and what the user should know of that."""
        prompt = self._session.prompt(request, thinking)
        self._check_ids(prompt.ids)
        self._check_length(prompt)
        window = min(self.context_length - len(prompt.ids), max_tokens or self.context_length)
        return prompt, *self._planner.plan(request, thinking, window, opened=prompt.opened)

    def end_thinking(self, request_id: str) -> None:
        """Have the reply to the request of this id answer now, if it is still thinking."""
        self._worker.end_thinking(request_id)

    def logits(self, ids: Sequence[int], first: int = 0) -> Tensor:
        """Compute one window on its own; returns float32 logits [len(ids) - first, vocab] of ids[first:]."""
        self._check_ids(ids)
        if len(ids) > self.context_length:
            raise ContextExceeded(f"{len(ids)} tokens do not fit into a context of {self.context_length}")

        def run() -> Tensor:
            cache, self._filled = self._scratch_cache(len(ids)), 0
            return run_alone(self._model, cache, list(ids), first).cpu()

        return self._worker.run_exclusive(run)

    def bench(self, prompt: int, generate: int, depth: int, *, flash: bool = True) -> float:
        """Return the seconds for `prompt` tokens at once and `generate` one by one, after `depth` others.

        flash=False measures plain attention instead, whose scores are all in memory at once; it raises NotSupported
        where torch computes, and OutOfMemory. What attention worked in, besides the cache, is left in
        `attention_bytes`; None where torch computes.
        """
        size = depth + prompt + generate
        if size > self.context_length:
            raise ContextExceeded(f"{size} tokens do not fit into a context of {self.context_length}")
        if not flash:
            self._plan_scores(min(prompt or 1, MAX_STEP), size)
        ids = random.Random(0).choices(range(self.config.vocab_size), k=size)
        program = self._model.program

        def run() -> float:
            cache = self._scratch_cache(size)
            # The same tokens lead every run: what is cached of them stays.
            filled, self._filled = min(self._filled, depth), depth
            if depth > filled:
                run_alone(self._model, cache, ids[filled:depth], depth - filled - 1, start=filled)
            if program is not None:
                program.attention_bytes()  # of what was not measured
            started = time.perf_counter()
            if prompt:
                part = ids[depth : depth + prompt]
                run_alone(self._model, cache, part, prompt - 1, start=depth, flash=flash)
            for at in range(depth + prompt, size):
                run_alone(self._model, cache, ids[at : at + 1], 0, start=at, flash=flash)
            synchronize(self._backend.device)
            seconds = time.perf_counter() - started
            self.attention_bytes = None if program is None else program.attention_bytes()
            return seconds

        return self._worker.run_exclusive(run)

    def close(self) -> None:
        """Stop the engine and let go of the model's memory."""
        self._worker.close()
        self.checkpoint.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _with_parameters(self, options: LoadOptions) -> LoadOptions:
        """Fill in what the Modelfile says and the user did not."""
        return replace(
            options,
            num_ctx=self._parameter("num_ctx") if options.num_ctx is None else options.num_ctx,
            threads=options.threads or self._parameter("num_thread"),
        )

    def _parameter(self, name: str) -> int | None:
        """Return a size that the Modelfile sets; None if it sets none."""
        value = self.contents.parameters.get(name) if self.contents is not None else None
        return value if isinstance(value, int) and value > 0 else None

    def _engine(self) -> Engine:
        cache = self._backend.new_cache(self._model, self.context_length)
        pool = BlockPool(cache.num_blocks, BLOCK_SIZE)
        tokenizer = self.tokenizer  # the engine must not hold the LLM, or nothing would ever free it
        scheduler = Scheduler(pool, max_context=self.context_length, token_budget=CHUNK, chunk=CHUNK)
        return Engine(
            ModelRunner(self._model, cache),
            pool,
            scheduler,
            Sampler(),
            detokenizer=lambda: tokenizer.stream(continuing=True),
            token_bytes=tokenizer.token_bytes,
        )

    def _scratch_cache(self, size: int) -> Cache:
        """Return a cache of at least `size` slots for windows outside the schedule."""
        if self._scratch is None or self._scratch.num_blocks * BLOCK_SIZE < size:
            self._scratch, self._filled = None, 0
            self._scratch = self._backend.new_cache(self._model, size)
        return self._scratch

    def _plan_scores(self, rows: int, context: int) -> None:
        """Raise what keeps plain attention from having all scores of `rows` tokens in memory."""
        if self._model.program is None:
            raise NotSupported(
                "plain attention is there for the native CPU kernels only",
                field="flash",
                hint="--flash on; --device cpu and --dtype auto use the kernels",
            )
        free = max(available_memory(self._backend.device), self._score_bytes + RESERVE)
        self._score_bytes = max(plan_scores(self.config, rows, context, free), self._score_bytes)

    def _check_vocabulary(self) -> None:
        """Raise TokenizerError if the model lacks pieces of ordinary text; it may lack markup (Gemma 3 1B)."""
        size, known = self.config.vocab_size, self.tokenizer.vocab_size
        if any(self.tokenizer.is_ordinary(token) for token in range(size, known)):
            raise TokenizerError(f"the tokenizer has {known} tokens and the model only {size}")

    def _check_ids(self, ids: Sequence[int]) -> None:
        """Raise InvalidRequest for tokens that the model does not know."""
        unknown = next((token for token in ids if not 0 <= token < self.config.vocab_size), None)
        if unknown is not None:
            text = self.tokenizer.token_text(unknown)
            raise InvalidRequest(
                f"the prompt holds the token {text!r} (id {unknown}), which the model does not know",
                field="prompt",
            )

    def _check_length(self, prompt: Prompt) -> None:
        excess = len(prompt.ids) + 1 - self.context_length
        if excess > 0:
            own = self.config.max_positions
            larger = f"--num-ctx {min(own, len(prompt.ids) + 1024)}, or " if own > len(prompt.ids) else ""
            raise ContextExceeded(
                f"the prompt is {len(prompt.ids)} tokens long, {excess} more than the context of "
                f"{self.context_length} leaves room for",
                field="prompt",
                hint=f"{larger}shorten the prompt",
            )

    def _with_model_messages(self, request: ChatRequest) -> ChatRequest:
        """Put the Modelfile's SYSTEM and MESSAGEs before a conversation that has no system message of its own."""
        if request.raw is not None or self.contents is None:
            return request
        before = tuple(Message(role, text) for role, text in self.contents.messages)  # type: ignore[arg-type]
        if self.contents.system and not any(m.role == "system" for m in (*before, *request.messages)):
            before = (Message("system", self.contents.system), *before)
        return replace(request, messages=(*before, *request.messages))

    def _take_load_ms(self) -> float:
        """Return what loading took, to the first reply; later ones found the model loaded."""
        taken, self._untold_load_ms = self._untold_load_ms, 0.0
        return taken


def _counted(
    checkpoint: Checkpoint, progress: Progressed, tokenizer: Future[Tokenizer]
) -> Callable[[int], None]:
    """Turn a callback for (done, total) into one for each tensor's bytes, which ends loading for a bad tokenizer."""
    done = 0

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if tokenizer.done():
            tokenizer.result()
        if progress is not None:
            progress(done, checkpoint.nbytes)

    return count


def _template(
    checkpoint: Checkpoint, contents: Contents | None, tokenizer: Tokenizer
) -> tuple[Template | None, TemplateError | None]:
    """Return the chat template, the Modelfile's or else the checkpoint's own, or what is wrong with it.

    A model whose template does not compile still continues raw prompts.
    """
    own = contents.template if contents is not None else None
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


def _defaults(checkpoint: Checkpoint, contents: Contents | None) -> dict[str, Sourced]:
    """Return every option's default: mull's, then the model's own files', then the Modelfile's."""
    if contents is not None and contents.adapters:
        raise NotSupported("this model has an ADAPTER, and adapters cannot be applied yet")
    source = "gguf" if checkpoint.format == "gguf" else "generation_config"
    layers = [our_defaults(), model_defaults(checkpoint.generation, source)]
    if contents is not None:
        known = {k: v for k, v in contents.parameters.items() if k in OPTIONS}
        layers.append(from_user(known, "modelfile"))
    merged = merge(*layers)
    try:
        sampling_params(merged)
    except InvalidRequest as error:
        where = merged[error.field].source if error.field in merged else "model"
        raise InvalidRequest(f"the {where}'s {error.message}", field=error.field) from None
    return merged
