"""Fewer bits: formats of weights and how they are read."""
