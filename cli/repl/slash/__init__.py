"""The commands of the chat, by theme; table.py lists them all."""
