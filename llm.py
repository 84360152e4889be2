"""LLM: open a model by name, talk to it; the one waist between everything that asks and the engine."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

from torch import Tensor

from .chat.families.detect import detect
from .chat.message import Message
from .chat.options import OPTIONS, from_user, merge, sampling_params
from .chat.overflow import fit
from .chat.own import own_defaults, own_template
from .chat.planner import Planner
from .chat.reply import Asked, events
from .chat.request import ChatRequest
from .chat.session import Prompt, Session
from .chat.stream import Event
from .chat.thinking import THINK_OPTIONS, ThinkOptions
from .errors import ContextExceeded, InvalidRequest, NotSupported, TokenizerError
from .kernels.device import loading, trim_memory
from .models.base import MAX_STEP
from .models.checkpoint.base import Checkpoint
from .models.checkpoint.open import open_checkpoint
from .registry.target import Target, find_target
from .runtime.alone import Alone
from .runtime.backend import BLOCK_SIZE, Backend
from .runtime.blocks import BlockPool
from .runtime.engine import Engine
from .runtime.grammar.engine import GrammarEngine
from .runtime.load_options import LoadOptions
from .runtime.memory import MemoryPlan
from .runtime.request import Request
from .runtime.runner import ModelRunner
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
        if self.contents is not None and self.contents.adapters:
            raise NotSupported("this model has an ADAPTER, and adapters cannot be applied yet")
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
        self.template, self._template_error = own_template(
            self.checkpoint, self.contents.template if self.contents is not None else None, self.tokenizer
        )
        self.family = detect(
            self.template.source if self.template else None,
            self.tokenizer.token_id,
            self.checkpoint.architecture,
            self.template.switch if self.template else None,
        )
        said = self.contents.parameters if self.contents is not None else {}
        self.defaults = own_defaults(self.checkpoint, said)
        self._session = Session(self.template, self.family, self.tokenizer)
        self._breakers = BreakerIndex(self.tokenizer)
        self._planner = Planner(self.family, self.tokenizer, said, settings.think_budget, settings.think_max)
        others = (self.family.close_tag, self.family.tool_open, self.family.tool_close)
        self._grammars = GrammarEngine(self.tokenizer, self.family.open_tag, others)
        self._alone = Alone(self._model, self._backend)
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
        request, truncated = fit(
            request,
            lambda shorter: len(self._session.prompt(shorter, thinking).ids),
            self.context_length,
            sampling.max_tokens,
        )
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
            truncated=truncated,
        )
        counter = ThoughtCounter(self.tokenizer, self.family.open_tag, self.family.close_tag, prompt.opened)
        return events(stream, self._session.parser(prompt, request), counter, asked)

    def prompt(self, request: ChatRequest) -> Prompt:
        """Return what the model would be given to continue: its text and tokens. Raises as `chat` does."""
        if request.raw is None and self._template_error is not None:
            raise self._template_error
        return self._session.prompt(self._with_model_messages(request), self._planner.options(request))

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

    def abort(self, request_id: str) -> None:
        """End the reply to the request of this id after its present token, with the reason "cancelled"."""
        self._worker.abort(request_id)

    def logits(self, ids: Sequence[int], first: int = 0) -> Tensor:
        """Compute one window on its own; returns float32 logits [len(ids) - first, vocab] of ids[first:]."""
        self._check_ids(ids)
        self._check_window(len(ids))
        return self._worker.run_exclusive(lambda: self._alone.logits(list(ids), first))

    def bench(self, prompt: int, generate: int, depth: int, *, flash: bool = True) -> float:
        """Return the seconds for `prompt` tokens at once and `generate` one by one, after `depth` others.

        flash=False measures plain attention instead, whose scores are all in memory at once; it raises NotSupported
        where torch computes, and OutOfMemory.
        """
        self._check_window(depth + prompt + generate)
        return self._worker.run_exclusive(lambda: self._alone.bench(prompt, generate, depth, flash=flash))

    @property
    def attention_bytes(self) -> int | None:
        """What attention worked in during the last `bench`, besides the cache; None where torch computes."""
        return self._alone.attention_bytes

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

    def _check_vocabulary(self) -> None:
        """Raise TokenizerError if the model lacks pieces of ordinary text; it may lack markup (Gemma 3 1B)."""
        size, known = self.config.vocab_size, self.tokenizer.vocab_size
        if any(self.tokenizer.is_ordinary(token) for token in range(size, known)):
            raise TokenizerError(f"the tokenizer has {known} tokens and the model only {size}")

    def _check_window(self, size: int) -> None:
        if size > self.context_length:
            raise ContextExceeded(f"{size} tokens do not fit into a context of {self.context_length}")

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
