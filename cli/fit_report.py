"""What `llm fit` found, as lines for a terminal of any width or as one JSON object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .formats import bits_in_words, columns, human_bytes, human_number, printable
from .headers import bits_per_weight, quantization

if TYPE_CHECKING:
    from ..models.cache import CacheTypes
    from ..runtime.fit import CacheFit, Fit, Size
    from ..runtime.machine import Machine
    from .fit_source import Source

_WIDE, _HALF = 78, 56  # columns that the tables take in full, and with less


@dataclass(frozen=True, slots=True)
class Row:
    """One of a repository's models; exact: worked out from its own header."""

    label: str
    size: int
    fit: Fit
    exact: bool


def lines(
    source: Source, fit: Fit, rows: Sequence[Row], machine: Machine, parallel: int, width: int
) -> Iterator[str]:
    """Yield the report's lines."""
    if rows:
        yield from _repository(source, rows, width)
        yield ""
    yield from _headline(source, rows, width)
    yield ""
    yield from _indented(columns(_memory(fit, machine, width), gap="  "))
    yield ""
    yield from _indented(_caches(fit, parallel, width))
    yield ""
    yield from _verdict(fit, machine, width)


def _headline(source: Source, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Say what the model is."""
    checkpoint = source.checkpoint
    kind, bits = quantization(checkpoint), bits_per_weight(checkpoint)
    name = next((row.label for row in rows if row.exact), source.name)
    facts = [f"{human_number(checkpoint.num_parameters)} parameters", kind or checkpoint.format]
    if bits is not None:
        facts.append(bits_in_words(bits))
    yield from _wrapped(f"{printable(name)}: {checkpoint.architecture}, {', '.join(facts)}", width)


def _memory(fit: Fit, machine: Machine, width: int) -> list[list[str]]:
    """Return what is taken, with remarks where there is room for them."""
    held = sorted(fit.weights.held.items(), key=lambda item: -item[1])
    kinds = ", ".join(f"{name.upper()} {human_bytes(count)}" for name, count in held[:3] if count >= 10**6)
    at_once = fit.caches[0].asked
    rows = [
        ["weights", human_bytes(fit.weights.nbytes), kinds],
        [
            "read in place",
            human_bytes(fit.weights.mapped),
            "pages of the file, which the system can take back",
        ],
        ["buffers", human_bytes(fit.buffers), "of a step"],
        ["tokenizer", human_bytes(fit.tokenizer), ""],
        ["process", human_bytes(fit.process), "Python and torch"],
        [
            "context",
            human_bytes(at_once.cache_bytes),
            f"{fit.context} tokens in {_name(fit.caches[0].types)}",
        ],
        [
            "in all",
            human_bytes(at_once.peak_bytes),
            f"of {human_bytes(machine.total)}, {human_bytes(machine.free)} free",
        ],
    ]
    room = width - 26
    return [row if len(row[2]) <= room else row[:2] for row in rows]


def _caches(fit: Fit, parallel: int, width: int) -> list[str]:
    """Return the table of contexts by type of cache; below each other on narrow terminals."""
    if width < _HALF:
        return [line for cache in fit.caches for line in _stacked(fit, cache, parallel)]
    sizes = [fit.context] if fit.context == fit.own_context else [fit.context, fit.own_context]
    rows = [["CACHE"]]
    for tokens in sizes:
        rows[0] += [f"{tokens} TOKENS", *(["IN ALL"] if width >= _WIDE else []), "FITS"]
    rows[0].append("LARGEST" if parallel == 1 else f"LARGEST, OF {parallel}")
    for cache in fit.caches:
        row = [_name(cache.types)]
        for size in (cache.asked, cache.own)[: len(sizes)]:
            total = [human_bytes(size.peak_bytes)] if width >= _WIDE else []
            row += [human_bytes(size.cache_bytes), *total, _fits(fit, size)]
        rows.append([*row, _largest(cache, parallel)])
    return columns(rows, gap="  ")


def _stacked(fit: Fit, cache: CacheFit, parallel: int) -> list[str]:
    both = [cache.asked] if fit.context == fit.own_context else [cache.asked, cache.own]
    return [
        _name(cache.types),
        *(f"  {size.context}: {human_bytes(size.cache_bytes)}, fits: {_fits(fit, size)}" for size in both),
        f"  largest: {_largest(cache, parallel)}",
    ]


def _largest(cache: CacheFit, parallel: int) -> str:
    """Return the largest context now, and what of it each of several replies has."""
    if not cache.largest_now:
        return "none"
    each = f", {cache.largest_now // parallel} each" if parallel > 1 else ""
    return f"{cache.largest_now}{each}"


def _fits(fit: Fit, size: Size) -> str:
    if not size.fits:
        return "no"
    if not fit.hold:
        return "slowly"
    return "yes" if size.fits_now and fit.hold_now else "not now"


def _verdict(fit: Fit, machine: Machine, width: int) -> Iterator[str]:
    """Say what it all means, in sentences."""
    asked, context = _fits(fit, fit.caches[0].asked), fit.context
    said = {
        "yes": f"It fits now, with a context of {context} tokens.",
        "not now": f"A context of {context} tokens fits this machine, but not beside what else runs now.",
        "slowly": "The weights are more than the memory holds: they are read from the file and unpacked at each "
        "use, which is slow.",
        "no": f"A context of {context} tokens does not fit this machine.",
    }[asked]
    yield from _wrapped(said, width)
    if fit.tokens_per_second is not None and machine.bandwidth is not None:
        first, last = fit.tokens_per_second
        yield from _wrapped(
            f"It can reply with {_speed(first)} tokens per second at the beginning and {_speed(last)} at the end of "
            f"{context} tokens: each reads {human_bytes(fit.weights.active)} of weights, at "
            f"{machine.bandwidth / 1e9:.1f} GB/s.",
            width,
        )


def _repository(source: Source, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Return the table of what a repository has, the one that a pull takes marked."""
    assert source.offer is not None
    table = [["", "QUANT", "SIZE", "FITS", "CONTEXT", "TOK/S"]]
    longest = max(8, width - 36)
    for row in rows:
        fit, first = row.fit, row.fit.caches[0]
        speed = "" if fit.tokens_per_second is None else _speed(fit.tokens_per_second[0])
        label = printable(row.label)
        label = label if len(label) <= longest else f"…{label[1 - longest :]}"
        size, largest = human_bytes(row.size), str(first.largest_now or "none")
        table.append(["*" if row.exact else "", label, size, _fits(fit, first.asked), largest, speed])
    yield from columns(table, gap=" " if width < _HALF else "  ")
    yield ""
    yield from _wrapped(f"* {source.offer.chosen.label}: {source.offer.reason}", width)


def as_dict(
    source: Source, fit: Fit, rows: Sequence[Row], machine: Machine, parallel: int
) -> dict[str, object]:
    """Return everything, in bytes, tokens and tokens per second."""
    checkpoint = source.checkpoint
    return {
        "model": source.name,
        "path": None if source.where is None else str(source.where.absolute()),
        "architecture": checkpoint.architecture,
        "parameters": checkpoint.num_parameters,
        "quantization": quantization(checkpoint),
        "bits_per_weight": bits_per_weight(checkpoint),
        "tensor_bytes": checkpoint.nbytes,
        "machine": {
            "memory": machine.total,
            "free": machine.free,
            "bandwidth": machine.bandwidth,
        },
        "parallel": parallel,
        **_fit(fit, parallel),
        "quants": [
            {
                "quant": row.label,
                "size": row.size,
                "chosen": row.exact,
                "estimated_from": "header" if row.exact else "size",
                **_fit(row.fit, parallel),
            }
            for row in rows
        ],
        "reason": source.offer.reason if source.offer is not None else None,
    }


def _fit(fit: Fit, parallel: int) -> dict[str, object]:
    speed = fit.tokens_per_second
    return {
        "backend": fit.backend,
        "fits": _fits(fit, fit.caches[0].asked),
        "context": fit.context,
        "model_context": fit.own_context,
        "weights": {
            "held": fit.weights.nbytes,
            "by_type": dict(fit.weights.held),
            "mapped": fit.weights.mapped,
        },
        "read_per_token": fit.weights.active,
        "buffers": fit.buffers,
        "tokenizer": fit.tokenizer,
        "process": fit.process,
        "caches": [_cache(fit, cache, parallel) for cache in fit.caches],
        "tokens_per_second": None
        if speed is None
        else {"first": round(speed[0], 3), "last": round(speed[1], 3)},
    }


def _cache(fit: Fit, cache: CacheFit, parallel: int) -> dict[str, object]:
    return {
        "keys": cache.types.keys,
        "values": cache.types.values,
        "bytes_per_token": cache.token_bytes,
        "asked": _size(fit, cache.asked),
        "model": _size(fit, cache.own),
        "largest_now": cache.largest_now,
        "largest": cache.largest,
        "largest_each_now": cache.largest_now // parallel,
        "largest_each": cache.largest // parallel,
    }


def _size(fit: Fit, size: Size) -> dict[str, object]:
    return {
        "context": size.context,
        "cache": size.cache_bytes,
        "total": size.peak_bytes,
        "fits": _fits(fit, size),
    }


def _name(types: CacheTypes) -> str:
    return types.keys if types.keys == types.values else f"{types.keys}/{types.values}"


def _speed(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _indented(found: Sequence[str]) -> Iterator[str]:
    for line in found:
        yield f"  {line}"


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(20, width)) or [""]
