"""How much memory and time one rendering of a template may use, and what values weigh."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jinja2.exceptions import SecurityError

_NODE = 16  # what a value weighs beside its characters
MAX_BITS = 100_000  # of an integer
_CONTAINERS: tuple[type[Collection[object]], ...] = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


class LimitExceeded(SecurityError):
    """A template wants more memory or time than a chat template can need."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may use, beside an allowance that grows with its input; sizes in characters."""

    value: int = 8_000_000
    total: int = 32_000_000
    turns: int = 10_000_000
    seconds: float = 5.0


class Budget:
    """What one rendering has used so far."""

    def __init__(self, limits: Limits, variables: object = None) -> None:
        """Begin with `limits`, and more for what the template is given."""
        size, count = weigh(variables)
        self.max_value = limits.value + 8 * size
        self._total_left = limits.total + 64 * size
        self._turns_left = limits.turns + count * count  # some compare each message with every other
        # Processor time: a busy machine must not make a good template fail.
        self._deadline = time.thread_time() + limits.seconds + count / 500
        self._next_look = self._turns_left - 500

    def turn(self, count: int = 1) -> None:
        """Count `count` small steps."""
        self._turns_left -= count
        if self._turns_left < self._next_look:
            self._next_look = self._turns_left - 500
            if self._turns_left < 0 or time.thread_time() > self._deadline:
                raise LimitExceeded("the template takes too long")

    def expect(self, size: int) -> None:
        """Refuse a value of `size` before it is made."""
        if size > self.max_value:
            raise LimitExceeded(f"the template makes a value of about {size:,} characters")

    def take(self, size: int) -> None:
        """Charge a value of `size` that was just made."""
        self.expect(size)
        self._total_left -= size
        if self._total_left < 0:
            raise LimitExceeded("the template makes too much text")

    def made(self, value: object) -> None:
        """Charge `value` for what is new of it, and refuse it if its whole is too large."""
        self.turn()
        if isinstance(value, str | bytes):
            self.take(len(value))
        elif isinstance(value, _CONTAINERS):
            self.weigh(value)
            self.take(_NODE * len(value))
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise LimitExceeded("the template makes a number with too many digits")

    def weigh(self, value: object) -> int:
        """Return the size of `value` with everything in it, as often as it is in it."""
        total, steps = weigh(value, self.max_value)
        self.turn(steps // 8)
        self.expect(total)
        return total


def weigh(value: object, limit: int | None = None) -> tuple[int, int]:
    """Return the size of `value` and the number of values seen; stop soon after `limit`."""
    total, steps, waiting = 0, 0, [value]
    while waiting and (limit is None or total <= limit):
        item = waiting.pop()
        steps += 1
        if isinstance(item, str | bytes):
            total += _NODE + len(item)
        elif isinstance(item, Mapping):
            total += 2 * _NODE * (1 + len(item))
            if limit is None or total <= limit:
                waiting += item.keys()
                waiting += item.values()
        elif isinstance(item, _CONTAINERS):
            total += _NODE * (1 + len(item))
            if limit is None or total <= limit:
                waiting += item
        else:
            total += _NODE + (item.bit_length() // 3 if isinstance(item, int) else 0)
    return total, steps
