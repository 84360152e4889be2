"""The arithmetic: every operation, by name, type and device."""

from . import reference as reference  # fills dispatch's table
