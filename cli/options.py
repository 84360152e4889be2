"""The options that commands share, in groups: a command takes a whole group as one parameter."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Literal, get_type_hints

import typer

from ..errors import InvalidRequest

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a .gguf or a folder.")]
Device = Literal["auto", "cpu", "cuda", "mps"]
ComputeType = Literal["auto", "f32", "bf16", "f16"]
CacheType = Literal["auto", "f32", "f16", "bf16", "q8_0", "q4_0"]

_UNITS = {"": 1, "K": 1024, "M": 1024**2}
_THREADS_PER_CORE = 4
_MOST_SAMPLES, _VOTERS = 64, 8


def parse_count(text: str) -> int:
    """Read a whole number, or one with K or M (times 1,024 or 1,048,576), such as `32K`."""
    match = re.fullmatch(r"([+-]?[0-9]{1,18})([km]?)", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"'{text}' is not a whole number, such as 4096 or 32K")
    return int(match[1]) * _UNITS[match[2].upper()]


def in_panel(panel: str) -> Callable[..., typer.models.OptionInfo]:
    """Return what declares options under a heading of the help."""

    def option(names: str, text: str, metavar: str | None = None) -> typer.models.OptionInfo:
        parser = parse_count if metavar == _COUNT else None
        info: typer.models.OptionInfo = typer.Option(
            *names.split(), help=text, metavar=metavar, parser=parser, rich_help_panel=panel
        )
        return info

    return option


_COUNT, _NUMBER = "N", "NUMBER"
_reply = in_panel("Prompt and reply")
_sampling = in_panel("Sampling (by default the model's own values; --verbose shows them)")
_loading = in_panel("Loading")
_output = in_panel("Output")


@dataclass(frozen=True, slots=True)
class ReplyFlags:
    """What the model is told, and what its answer must look like."""

    system: Annotated[str | None, _reply("--system", "A system message.", "TEXT")] = None
    raw: Annotated[bool, _reply("--raw", "Take the prompt as it is, without the chat template.")] = False
    format: Annotated[
        str | None,
        _reply(
            "--format", "What the answer must be: json, SCHEMA.json, {…}, regex:… or choice:a,b.", "FORMAT"
        ),
    ] = None
    grammar: Annotated[
        str | None, _reply("--grammar", "What the answer must be: a grammar in GBNF or Lark.", "FILE")
    ] = None


@dataclass(frozen=True, slots=True)
class SamplingFlags:
    """How tokens are drawn and when to stop; None is the model's default."""

    temperature: Annotated[
        float | None, _sampling("--temperature", "How freely to draw; 0: the likeliest token.", _NUMBER)
    ] = None
    top_k: Annotated[int | None, _sampling("--top-k", "Keep the N likeliest tokens; 0: all.", _COUNT)] = None
    top_p: Annotated[
        float | None, _sampling("--top-p", "Keep the likeliest that make up this share.", _NUMBER)
    ] = None
    min_p: Annotated[
        float | None, _sampling("--min-p", "Keep tokens of at least this share of the likeliest's.", _NUMBER)
    ] = None
    typical_p: Annotated[
        float | None, _sampling("--typical-p", "Keep the most typical that make up this share.", _NUMBER)
    ] = None
    repeat_penalty: Annotated[
        float | None, _sampling("--repeat-penalty", "Make repetition less likely; 1: off.", _NUMBER)
    ] = None
    repeat_last_n: Annotated[
        int | None, _sampling("--repeat-last-n", "How far back penalties look; -1: all, 0: off.", _COUNT)
    ] = None
    presence_penalty: Annotated[
        float | None, _sampling("--presence-penalty", "Counts once for each token that came.", _NUMBER)
    ] = None
    frequency_penalty: Annotated[
        float | None, _sampling("--frequency-penalty", "Counts as often as the token came.", _NUMBER)
    ] = None
    seed: Annotated[int | None, _sampling("--seed", "Draw the same again; by default random.", "SEED")] = None
    num_predict: Annotated[
        int | None, _sampling("--num-predict -n", "Generate at most N tokens; -1: no limit.", _COUNT)
    ] = None
    stop: Annotated[
        list[str] | None, _sampling("--stop", "End before this text; may be given again.", "TEXT")
    ] = None
    repeat_stop: Annotated[
        int | None, _sampling("--repeat-stop", "End an answer that goes in circles, after N rounds.", _COUNT)
    ] = None
    logprobs: Annotated[
        int | None,
        _sampling("--logprobs", "With --json: each token's log-probability, and the N likeliest's.", _COUNT),
    ] = None

    def given(self) -> dict[str, object]:
        """Return the options that were set, by their users' names; raises InvalidRequest for a bad value."""
        from ..chat.options import from_user, merge, our_defaults, sampling_params

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        # An option that may repeat is an empty list where it is absent.
        given = {name: value for name, value in values.items() if value not in (None, [])}
        sampling_params(merge(our_defaults(), from_user(given, "request")))
        return given


@dataclass(frozen=True, slots=True)
class DeviceFlags:
    """What a model computes with; None is automatic."""

    threads: Annotated[int | None, _loading("--threads -t", "CPU threads; 0: one per core.", "NUMBER")] = None
    device: Annotated[Device, _loading("--device", "Where to compute.")] = "auto"
    dtype: Annotated[ComputeType, _loading("--dtype", "The type to compute in.")] = "auto"

    def check(self) -> None:
        """Raise InvalidRequest for a number that makes no sense."""
        check_threads(self.threads)


@dataclass(frozen=True, slots=True)
class ComputeFlags(DeviceFlags):
    """What a model computes with, and what its cache is stored in."""

    cache_type_k: Annotated[CacheType, _loading("--cache-type-k -ctk", "What keys are cached in.")] = "auto"
    cache_type_v: Annotated[CacheType, _loading("--cache-type-v -ctv", "What values are cached in.")] = "auto"


@dataclass(frozen=True, slots=True)
class ModelFlags(ComputeFlags):
    """How one model is loaded."""

    quantize: Annotated[
        str | None,
        _loading("--quantize", "Quantize while loading: nf4, fp4, int8, q8_0, q4_k_m …", "TYPE"),
    ] = None

    def check(self) -> None:
        """Raise InvalidRequest for a number that makes no sense or a type that is none."""
        check_threads(self.threads)
        if self.quantize is not None:
            from ..quant.load_types import load_type

            load_type(self.quantize)


@dataclass(frozen=True, slots=True)
class LoadFlags(ModelFlags):
    """How a model is loaded to talk to it."""

    speculate: Annotated[
        str, _loading("--speculate", "Guess tokens ahead: auto (as many as pay), off, or N at a time.", "HOW")
    ] = "auto"
    draft: Annotated[
        str | None, _loading("--draft", "A smaller model of the same vocabulary that guesses.", "MODEL")
    ] = None
    prompt_cache: Annotated[
        str | None, _loading("--prompt-cache", "Keep long prompts on disk, in at most so much: 4GB.", "SIZE")
    ] = None
    local: Annotated[bool, _loading("--local", "Load the model here, even if a server is running.")] = False
    num_ctx: Annotated[
        int | None, _loading("--num-ctx -c", "The context, in tokens, such as 4096 or 32K.", _COUNT)
    ] = None

    def check(self) -> None:
        """Raise InvalidRequest for a number that makes no sense or a type that is none."""
        from ..runtime.load_options import parse_speculate

        ModelFlags.check(self)
        parse_speculate(self.speculate)
        self.prompt_cache_bytes()
        if self.num_ctx is not None and self.num_ctx < 1:
            raise InvalidRequest(f"the context must be at least 1 token, not {self.num_ctx}", field="num_ctx")

    def prompt_cache_bytes(self) -> int | None:
        """Return the most that prompts may take on disk; raises InvalidRequest for what is no size."""
        from .quantize_source import parse_size

        return None if self.prompt_cache is None else parse_size(self.prompt_cache)


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """What is printed beside the reply."""

    verbose: Annotated[bool, _output("--verbose", "Show options, their sources, and statistics.")] = False
    as_json: Annotated[bool, _output("--json", "Print one JSON object instead of the text.")] = False
    quiet: Annotated[bool, _output("--quiet -q", "Show no progress and no notes.")] = False
    samples: Annotated[int | None, _output("--samples -N", "Answer N times.", "N")] = None
    vote: Annotated[bool, _output("--vote", "Answer 8 or N times; print what most agree on.")] = False

    def count(self) -> int:
        """Return how many answers are wanted; raises InvalidRequest for a number that makes no sense."""
        if self.samples is not None and not 1 <= self.samples <= _MOST_SAMPLES:
            raise InvalidRequest(
                f"--samples must be from 1 to {_MOST_SAMPLES}, not {self.samples}", field="samples"
            )
        return self.samples or (_VOTERS if self.vote else 1)


def check_threads(threads: int | None) -> None:
    """Raise InvalidRequest for threads below 0 or far beyond the cores; 0 and None are automatic."""
    most = _THREADS_PER_CORE * (os.cpu_count() or 1)
    if threads is not None and not 0 <= threads <= most:
        raise InvalidRequest(
            f"--threads must be from 0 to {most} on this machine, not {threads}",
            field="threads",
            hint="leave it out for one thread per core",
        )


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command whose parameters may be groups: typer sees their fields, the command the groups."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in groups:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        group = groups[parameter.name]
        types = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(field.name, parameter.kind, default=field.default, annotation=types[field.name])
            for field in fields(group)
        ]
    signature = inspect.Signature(parameters)

    @functools.wraps(command)
    def flat(*args: object, **options: object) -> None:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        values = dict(bound.arguments)
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    flat.__signature__ = signature  # type: ignore[attr-defined]
    return flat
