"""How long an idle model stays in memory, as requests and options write it: seconds, or `5m`, `1h30m`, `-1`."""

from __future__ import annotations

import math
import re

from ..errors import InvalidRequest

FOREVER = -1.0

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)", re.ASCII)


def parse_keep_alive(value: object, field: str = "keep_alive") -> float | None:
    """Return seconds, below 0 for ever; None if nothing was said. Raises InvalidRequest."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return FOREVER if value < 0 else min(float(value), 1e9)
    if isinstance(value, str):
        seconds = _seconds(value.strip())
        if seconds is not None:
            return FOREVER if seconds < 0 else min(seconds, 1e9)
    raise InvalidRequest(
        f'{field} must be seconds or a duration such as "5m", not {str(value)[:40]!r}', field=field
    )


def _seconds(text: str) -> float | None:
    """Read Go's durations and plain numbers; None if it is neither."""
    if _NUMBER.fullmatch(text):
        return float(text)
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    parts = _PART.findall(digits[:100])
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        return None
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)
