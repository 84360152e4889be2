"""The arithmetic: every operation, by name, type and device."""

from . import reference as reference  # fills dispatch's table
from .cpu import native as native  # so does this, where it can
