"""No format at all: every character is text."""

from __future__ import annotations

from .family import Family

PLAIN = Family(name="plain")
