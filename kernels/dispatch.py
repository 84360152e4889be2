"""Which function computes an operation for a type of weight on a kind of device: one table, filled by decorators.

find(op, dtype, device)  looks for  (op, dtype, device)
                                    (op, dtype, "any")
                                    (op, "any", device)
                                    (op, "any", "any")      `reference.py` has one of these for every op
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

Kernel = Callable[..., Any]
F = TypeVar("F", bound=Kernel)

ANY = "any"
_TABLE: dict[tuple[str, str, str], Kernel] = {}


def kernel(op: str, dtype: str = ANY, device: str = ANY) -> Callable[[F], F]:
    """Register the decorated function for `op` on weights of `dtype` on `device` ("cpu", "cuda", "mps")."""

    def register(function: F) -> F:
        key = (op, dtype, device)
        assert key not in _TABLE, f"two kernels for {key}"
        _TABLE[key] = function
        return function

    return register


@cache
def find(op: str, dtype: str = ANY, device: str = ANY) -> Kernel:
    """Return the most specific kernel; raises LookupError for an operation that nobody registered."""
    for key in ((op, dtype, device), (op, dtype, ANY), (op, ANY, device), (op, ANY, ANY)):
        if key in _TABLE:
            return _TABLE[key]
    raise LookupError(f"no kernel for {op!r}")
