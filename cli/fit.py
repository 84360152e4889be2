"""`llm fit`: what a model takes on this machine and how fast it will reply, before it is downloaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest, OutOfMemory
from ..settings import load_settings
from .fit_source import open_source
from .options import CacheType, parse_count
from .terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..runtime.fit import Fit
    from ..runtime.load_options import LoadOptions
    from ..runtime.machine import Machine
    from .fit_report import Row
    from .fit_source import Source

_MOST_PARALLEL = 1024


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model here, or what llm pull would get.")],
    num_ctx: Annotated[
        int | None,
        typer.Option("--num-ctx", "-c", metavar="N", parser=parse_count, help="The context: 4096 or 32K."),
    ] = None,
    cache_type_k: Annotated[
        CacheType, typer.Option("--cache-type-k", "-ctk", help="What keys are cached in.")
    ] = "auto",
    cache_type_v: Annotated[
        CacheType, typer.Option("--cache-type-v", "-ctv", help="What values are cached in.")
    ] = "auto",
    parallel: Annotated[
        int, typer.Option("--parallel", "-np", metavar="N", help="How many replies share the context.")
    ] = 1,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the memory's bandwidth anew.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with sizes in bytes.")
    ] = False,
) -> None:
    """Tell what a model takes in memory, the largest context that fits, and how fast it can reply.

    Of a model elsewhere only the headers are fetched. A repository named without a quantization is told as a whole:
    the one that a pull would take exactly, the others by their recipes and sizes.

    \b
    Examples:
      llm fit pocket
      llm fit hf.co/Qwen/Qwen3-8B-GGUF
      llm fit Qwen/Qwen3-8B-GGUF:Q5_K_M -c 32K -ctk q8_0 -ctv q8_0
      llm fit llama3.2 --parallel 4 --json
    """
    if num_ctx is not None and num_ctx < 1:
        raise InvalidRequest(f"the context must be at least 1 token, not {num_ctx}", field="num_ctx")
    if not 1 <= parallel <= _MOST_PARALLEL:
        raise InvalidRequest(
            f"--parallel must be from 1 to {_MOST_PARALLEL}, not {parallel}", field="parallel"
        )
    # What a run imports, so that this process shows what such a process takes.
    from .. import llm as _  # noqa: F401
    from ..runtime.load_options import LoadOptions
    from .fit_report import as_dict, lines

    settings = load_settings()
    options = LoadOptions(
        num_ctx=num_ctx,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        parallel=parallel,
        cpu=settings.cpu,
    )
    machine = _machine(options, renew=measure)
    with open_source(model) as source:
        fit = _estimate(source, options, machine)
        rows = _rows(source, fit, options, machine)
        if as_json:
            print(json.dumps(as_dict(source, fit, rows, machine, parallel), indent=2, ensure_ascii=False))
            return
        for line in lines(source, fit, rows, machine, parallel, Terminal.detect().width):
            print(line)


def _machine(options: LoadOptions, *, renew: bool) -> Machine:
    """Measure this machine; how fast it reads memory is measured once and kept."""
    import torch

    from ..kernels.cpu import native
    from ..kernels.device import available_memory, choose_device, choose_threads
    from ..registry.sources.quants import this_machine
    from ..runtime.machine import Machine, bandwidth, measure_reading, process_bytes

    settings = load_settings()
    device, threads = choose_device(options.device), choose_threads(options.threads)
    process, free = process_bytes(), available_memory(device)
    isa = native.choose(options.cpu) if device.type == "cpu" else None
    if device.type == "cuda":
        process, total = 0, int(torch.cuda.mem_get_info(device)[1])
    else:
        total = this_machine(settings.models_dir).memory
    name = isa.name if isa is not None else f"torch on {device.type}"
    try:
        speed = bandwidth(
            settings.state_dir / "bandwidth.json",
            name,
            threads,
            lambda: measure_reading(isa, device, threads),
            renew=renew,
        )
    except OutOfMemory:
        return Machine(free, total, process)
    return Machine(free, total, process, speed)


def _estimate(source: Source, options: LoadOptions, machine: Machine) -> Fit:
    from ..runtime.fit import estimate, with_context

    return estimate(source.checkpoint, with_context(options, source.num_ctx), machine)


def _rows(source: Source, fit: Fit, options: LoadOptions, machine: Machine) -> Sequence[Row]:
    """Estimate all that a repository offers, from the header of one."""
    from ..models.load import model_config
    from ..models.retyped import Siblings
    from ..runtime.fit import estimate, with_context
    from .fit_report import Row

    offer = source.offer
    if offer is None or len(offer.choices) < 2:
        return ()
    options = with_context(options, source.num_ctx)
    siblings = Siblings(source.checkpoint, model_config(source.checkpoint))
    rows = []
    for choice in sorted(offer.choices, key=lambda choice: -choice.size):
        if choice == offer.chosen:
            rows.append(Row(choice.label, choice.size, fit, exact=True))
            continue
        like = siblings.like(choice.quant, choice.size)
        rows.append(Row(choice.label, choice.size, estimate(like, options, machine), exact=False))
    return rows
