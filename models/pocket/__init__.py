"""The bundled demo model: its problems, its training and its file."""

from pathlib import Path


def model_path() -> Path:
    """Give the file that ships with the package."""
    return Path(__file__).with_name("pocket-q8_0.gguf")
