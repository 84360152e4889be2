"""The thinking budget, token by token."""
