"""Tokens guessed ahead, which one pass of the model then checks together."""
