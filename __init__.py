"""mull: run open-weights language models locally, with a thinking budget that holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import MullError

if TYPE_CHECKING:
    from .chat.message import Message
    from .chat.request import ChatRequest
    from .llm import LLM
    from .runtime.sampling.params import SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "ChatRequest", "Message", "MullError", "SamplingParams", "__version__"]

_HOMES = {
    "LLM": "llm",
    "ChatRequest": "chat.request",
    "Message": "chat.message",
    "SamplingParams": "runtime.sampling.params",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `import mull` costs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mull' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
