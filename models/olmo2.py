"""OLMo 2: norms after each part, and over all heads' queries and keys at once; OLMo 3 adds windowed layers."""

from __future__ import annotations

from typing import Any

from .base import CausalLM, architecture
from .checkpoint.base import Checkpoint
from .checkpoint.names import SANDWICH_NORMS
from .config import section
from .layers.layer import PostNormLayer


@architecture(hf=("olmo2", "olmo3"), gguf=("olmo2",))
class Olmo2(CausalLM):
    """The width of the query and key norms shows by their tensors.

    GGUF files of OLMo 3 go by the name of OLMo 2 and show by their window.
    """

    layer = PostNormLayer
    gguf_names = SANDWICH_NORMS

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Add the window's pattern, and that windowed layers turn by the same base, never scaled."""
        if not config.get("sliding_window"):
            return config
        theta = config.get("rope_theta") or section(config, "rope_parameters").get("rope_theta")
        return {"sliding_window_pattern": 4, "rope_local_base_freq": theta, **config}
