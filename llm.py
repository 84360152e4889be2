"""LLM: open a model by name, talk to it; the one waist between everything that asks and the engine."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from torch import Tensor

from .chat.options import from_user, merge, sampling_params
from .chat.overflow import fit
from .chat.reply import Asked, events, saving
from .chat.request import ChatRequest
from .chat.session import Prompt
from .chat.speech import load_notes, speech_of, with_own_messages
from .chat.stream import Event
from .chat.thinking import THINK_OPTIONS, ThinkOptions
from .chat.tool_grammar import grammar_for
from .errors import ContextExceeded, InvalidRequest, NotSupported, TokenizerError
from .kernels.device import loading, trim_memory
from .models.checkpoint.base import Checkpoint
from .models.checkpoint.open import open_checkpoint
from .registry.target import Target, find_target
from .runtime.alone import Alone
from .runtime.assembly import make_engine
from .runtime.backend import Backend
from .runtime.block_files import BlockFiles, stamp
from .runtime.engine import Engine
from .runtime.grammar.engine import GrammarEngine
from .runtime.load_options import LoadOptions, with_parameters
from .runtime.memory import MemoryPlan
from .runtime.prompt_cache import PromptCache
from .runtime.request import Request
from .runtime.runner import ModelRunner
from .runtime.sampling.dry import BreakerIndex
from .runtime.speculative.load import make_proposer
from .runtime.speculative.proposer import Proposer
from .runtime.stats import EngineStats
from .runtime.thinking.plan import ThinkingPlan
from .runtime.thoughts import ThoughtCounter
from .runtime.tokenizer.load import load_tokenizer
from .runtime.tokenizer.tokenizer import Tokenizer
from .runtime.worker import Worker
from .settings import Settings, load_settings

Progressed = Callable[[int, int], None] | None


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
        said = self.contents.parameters if self.contents is not None else {}
        self._backend = Backend(self.checkpoint, with_parameters(options, said))
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
        limits = (settings.think_budget, settings.think_max)
        speech = speech_of(self.checkpoint, self.tokenizer, self.contents, *limits)
        own, self.family, self.defaults = speech.own, speech.family, speech.defaults
        self.template, self._template_error, self._template_note = own.template, own.error, own.note
        self._session, self._planner = speech.session, speech.planner
        self._breakers = BreakerIndex(self.tokenizer)
        others = (self.family.close_tag, self.family.tool_open, self.family.tool_close)
        self._grammars = GrammarEngine(self.tokenizer, self.family.open_tag, others)
        self._alone = Alone(self._model, self._backend)
        proposer = self._proposer(options, settings)
        engine = make_engine(self._model, self._backend, self.tokenizer, options, proposer)
        self._worker = Worker(engine)
        self._prompts = self._prompt_cache(engine, options.prompt_cache, settings.cache_dir / "prompts")
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
        said = self.contents.parameters if self.contents is not None else {}
        return load_notes(self._backend, self._template_note, said)

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
        if request.raw is None and request.template is None and self._template_error is not None:
            raise self._template_error
        request = with_own_messages(request, self.contents)
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
        if self._prompts is not None:
            self._prompts.restore(prompt.ids)
        identity = {} if request.id is None else {"id": request.id}
        grammar, kept = grammar_for(request, self._session, self._grammars)
        stream = self._worker.submit(
            Request(prompt.ids, sampling, self.tokenizer.eos_ids, plan, grammar, **identity)
        )
        asked = Asked(
            prompt_tokens=len(prompt.ids),
            token_bytes=self.tokenizer.token_bytes,
            load_ms=self._take_load_ms(),
            enforced=plan is not None or not self.family.can_think,
            notes=(*notes, *kept),
            format=request.format,
            truncated=truncated,
            prompt_ids=prompt.ids,
        )
        counter = ThoughtCounter(self.tokenizer, self.family.open_tag, self.family.close_tag, prompt.opened)
        reply = events(stream, self._session.parser(prompt, request), counter, asked)
        return reply if self._prompts is None else saving(reply, self._prompts, prompt.ids)

    def prompt(self, request: ChatRequest) -> Prompt:
        """Return what the model would be given to continue: its text and tokens. Raises as `chat` does."""
        if request.raw is None and request.template is None and self._template_error is not None:
            raise self._template_error
        return self._session.prompt(with_own_messages(request, self.contents), self._planner.options(request))

    def measure(self, request: ChatRequest) -> tuple[int, int | None]:
        """Return the tokens of a request's prompt, and the most its thought may take; None where nothing limits one.

        Raises as `chat` does; nothing is computed.
        """
        request = with_own_messages(request, self.contents)
        own = {name: value for name, value in request.options.items() if name not in THINK_OPTIONS}
        most = sampling_params(merge(self.defaults, from_user(own, "request"))).max_tokens
        prompt, plan, _ = self._plan(request, self._planner.options(request), most)
        return len(prompt.ids), None if plan is None else plan.budget

    def _plan(
        self, request: ChatRequest, thinking: ThinkOptions, max_tokens: int | None
    ) -> tuple[Prompt, ThinkingPlan | None, tuple[str, ...]]:
        """Return the prompt of a request, the plan for its thoughts, and what the user should know of that."""
        prompt = self._session.prompt(request, thinking)
        self._check_ids(prompt.ids)
        self._check_length(prompt)
        window = min(self.context_length - len(prompt.ids), max_tokens or self.context_length)
        return prompt, *self._planner.plan(request, thinking, window, opened=prompt.opened)

    def end_thinking(self, request_id: str) -> bool:
        """Have the reply to the request of this id answer now, if it is still thinking; False if there is none."""
        return self._worker.end_thinking(request_id)

    def abort(self, request_id: str) -> None:
        """End the reply to the request of this id after its present token, with the reason "cancelled"."""
        self._worker.abort(request_id)

    def stats(self) -> EngineStats:
        """Return what the engine has under way, holds, and has done so far; any thread may ask."""
        return self._worker.stats

    def check(self) -> None:
        """Assert that the cache's books are right; for tests and long runs."""
        self._worker.check()

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

    def _proposer(self, options: LoadOptions, settings: Settings) -> Proposer | None:
        """Return what guesses the next tokens, by itself or with the draft model that was asked for."""
        drafts = self.contents.drafts if self.contents is not None else ()
        named = None if options.draft is None else find_target(options.draft, settings).path
        draft = named or (drafts[0] if drafts else None)
        return make_proposer(options, self._backend, self.tokenizer, draft, self.context_length)

    def _prompt_cache(self, engine: Engine, limit: int | None, folder: Path) -> PromptCache | None:
        """Return what keeps long prompts on disk; None where nobody asked for that."""
        if limit is None:
            return None
        # What a block's bytes depend on, besides its tokens.
        assert isinstance(engine.runner, ModelRunner)
        ways = (self.backend, engine.runner.deterministic)
        types = sorted(
            self.checkpoint.dtype_counts().items()
        )  # others where it was quantized as it was loaded
        parts = (stamp(self.checkpoint.path), types, self.config, *ways, self.context_length)
        files = BlockFiles(folder, repr(parts), limit)
        return PromptCache(files, engine.pool, engine.runner.cache, self._worker.run_exclusive)

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
                tokens=(len(prompt.ids), self.context_length),
            )

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
