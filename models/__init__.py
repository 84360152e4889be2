"""Tokens to logits: one small file per architecture."""
