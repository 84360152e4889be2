"""OLMo 2: norms after each part, and over all heads' queries and keys at once."""

from __future__ import annotations

from .base import CausalLM, architecture
from .checkpoint.names import SANDWICH_NORMS
from .layers.layer import PostNormLayer


@architecture(hf=("olmo2",), gguf=("olmo2",))
class Olmo2(CausalLM):
    """The width of the query and key norms shows by their tensors."""

    layer = PostNormLayer
    gguf_names = SANDWICH_NORMS
