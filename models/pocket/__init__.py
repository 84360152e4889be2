"""The bundled demo model: its problems, its training and its file."""
