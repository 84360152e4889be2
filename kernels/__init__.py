"""The arithmetic: every operation, by name, type and device."""
