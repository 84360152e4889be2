"""What every causal language model does; an architecture's own file says only how it differs from Llama."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..errors import NotSupported
from ..kernels.cpu.native import Isa
from ..kernels.cpu.program import Attention as Way
from ..kernels.cpu.program import Program, Recorder, logits
from ..kernels.dispatch import find
from .batch import Batch, Span, flatten
from .cache import Cache, CacheSpec, KVCache, NativeCache
from .checkpoint.base import Checkpoint
from .checkpoint.names import gguf_name
from .config import ModelConfig
from .layers.attention import Attention
from .layers.layer import Parts, PreNormLayer
from .layers.mlp import Experts, GatedMLP
from .layers.norm import RMSNorm
from .layers.rope import Rotary
from .steady import BY_EXPERTS, TOGETHER, steady_batches
from .weights import Weights

# Tokens that a step of a native program may have.
MAX_STEP = 512


class CausalLM:
    """Tokens to logits. Subclasses fill the slots and, rarely, override a method.

    gguf_names, hf_names: an architecture's own words for parts of a layer, where they differ from Llama's.
    harmless: parts of the names of tensors that may stand in a file unused.
    written_as: the GGUF architecture that a converted checkpoint gets, empty where there is none.
    gguf_keys: what its files say where the configuration says nothing.
    """

    attention: ClassVar[type[Attention]] = Attention
    norm: ClassVar[type[RMSNorm]] = RMSNorm
    layer: ClassVar[type[PreNormLayer]] = PreNormLayer
    activation: ClassVar[str] = "silu_mul"
    gguf_names: ClassVar[Mapping[str, str]] = {}
    hf_names: ClassVar[Mapping[str, str]] = {}
    harmless: ClassVar[tuple[str, ...]] = ("rotary_emb.inv_freq",)
    written_as: ClassVar[str] = ""
    gguf_keys: ClassVar[Mapping[str, int]] = {}

    @classmethod
    def adapt(cls, config: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the config with what this architecture's files leave unsaid."""
        return config

    @classmethod
    def translate(cls, checkpoint: Checkpoint) -> Callable[[str], str]:
        """Return how this checkpoint's files spell the names that we ask for."""
        if checkpoint.format == "gguf":
            return lambda name: gguf_name(name, cls.gguf_names)

        def spell(name: str) -> str:
            for ours, theirs in cls.hf_names.items():
                name = name.replace(ours, theirs)
            return name

        return spell

    def __init__(self, config: ModelConfig, weights: Weights, context_length: int) -> None:
        self.config = config
        vocab, hidden = config.vocab_size, config.hidden_size
        self._embedding = weights.embedding("model.embed_tokens", vocab, hidden)
        factors = None
        if weights.has("rope_freqs.weight"):
            factors = weights.tensor("rope_freqs.weight", (config.rope.dim // 2,))
        self._rotary = Rotary(config.rope, context_length, weights.device, factors)
        self._local_rotary = self._rotary
        if config.local_rope is not None:
            self._local_rotary = Rotary(config.local_rope, context_length, weights.device)
        self.layers = [
            self._layer(weights.scope(f"model.layers.{index}"), index) for index in range(config.num_layers)
        ]
        self._norm = self.norm(weights, "model.norm", hidden, config.norm_eps)
        tied = not weights.has("lm_head.weight")
        self._head = (
            weights.as_linear("model.embed_tokens", self._embedding.table)
            if tied
            else weights.linear("lm_head", vocab, hidden)
        )
        self.matrices = {
            gguf_name(f"{name}.weight", self.gguf_names): matrices
            for name, matrices in weights.source.matrices.items()
        }
        self._softcap = find("softcap", device=weights.device.type)
        weights.check_all_used(self.harmless)
        packer = weights.source.packer
        self.program = None if packer is None else self._record(packer.isa)

    def _layer(self, weights: Weights, index: int) -> PreNormLayer:
        config = self.config
        rotary = self._local_rotary if config.sliding_layers[index] else self._rotary
        sparse = config.num_experts > 0 and weights.has("mlp.gate.weight")
        parts = Parts(
            attention=self.attention(weights.scope("self_attn"), config, index, rotary, self.norm),
            mlp=(Experts if sparse else GatedMLP)(weights.scope("mlp"), config, self.activation),
            norm=self.norm,
        )
        return self.layer(weights, config, parts)

    def cache_spec(self) -> CacheSpec:
        """Return the shape of one token's keys and values."""
        return CacheSpec(self.config.num_layers, self.config.num_kv_heads, self.config.head_dim)

    def step(
        self, spans: Sequence[Span], cache: Cache, *, out: Tensor | None = None, way: Way = Way.FAST
    ) -> Tensor:
        """Compute the tokens of one step; returns float32 logits of each span's last `num_logits` tokens.

        out: memory [rows, vocab] that a native program may leave them in, if it has rows enough; then it is returned
        as it is, with the logits in its first rows: a view of them would cost as much as a small layer.
        way: PLAIN has a native program's attention keep all its scores in memory, for comparison; STEADY gives every
        sequence the numbers that it would get alone, however its tokens are cut into steps.
        """
        if not isinstance(cache, NativeCache):
            return self._steady(spans, cache) if way is Way.STEADY else self(Batch.of(spans, cache))
        assert self.program is not None, "a native cache for a model without a native program"
        numbers, counts = flatten(spans)
        rows = counts[-1]
        if out is None or out.shape[0] < rows:
            out = torch.empty(rows, self.config.vocab_size)
        self.program.run(numbers, counts, cache.table, out, attention=way)
        return out

    def _steady(self, spans: Sequence[Span], cache: KVCache) -> Tensor:
        together = BY_EXPERTS if self.config.num_experts else TOGETHER
        rows = [self(batch)[wanted] for batch, wanted in steady_batches(spans, cache, together)]
        return torch.cat(rows)

    def _record(self, isa: Isa) -> Program | None:
        """Write the model down as a native program; None if some part of it has no native kernel."""
        config = self.config
        tape = Recorder(isa)
        x, normed = tape.buffer("x", config.hidden_size), tape.buffer("branch", config.hidden_size)
        table = self._embedding.table
        try:
            tape.embed(
                x, table.parts[0], table.dtype.name, config.embedding_multiplier, self._embedding.is_mapped
            )
            # Of the last layer's tokens most are only attended to.
            tape.narrow(x, config.num_layers - 1)
            for layer in self.layers:
                layer.record(tape, x)
            tape.norm(x, normed, self._norm.weight, self._norm.eps)
            out = logits(config.vocab_size)
            tape.product(normed, self._head, out)
        except NotSupported:
            return None
        if config.logits_divisor != 1 or config.logit_softcap:
            tape.cap(out, 1 / config.logits_divisor, config.logit_softcap)
        return tape.finish(MAX_STEP)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Return the vectors of token_ids [T] as float32 [T, hidden]."""
        return self._embedding(token_ids) * self.config.embedding_multiplier

    def __call__(self, batch: Batch) -> Tensor:
        """Run one step; returns float32 logits [rows, vocab] of the batch's logits_rows."""
        x = self.embed(batch.token_ids)
        for layer in self.layers:
            x = layer(x, batch)
        logits = self._head(self._norm(x[batch.logits_rows])).float() / self.config.logits_divisor
        cap = self.config.logit_softcap
        capped: Tensor = self._softcap(logits, cap) if cap else logits
        return capped


M = TypeVar("M", bound=type[CausalLM])

_HF: dict[str, type[CausalLM]] = {}
_GGUF: dict[str, type[CausalLM]] = {}


def architecture(
    hf: tuple[str, ...] = (), gguf: tuple[str, ...] = (), written_as: str = ""
) -> Callable[[M], M]:
    """Register a class for `model_type`s of config.json and for GGUF's `general.architecture`s.

    written_as: what the class becomes as GGUF, if it has no name of its own there.
    """

    def register(model: M) -> M:
        model.written_as = gguf[0] if gguf else written_as
        _HF.update(dict.fromkeys(hf, model))
        _GGUF.update(dict.fromkeys(gguf, model))
        return model

    return register


def registered(file_format: str) -> Mapping[str, type[CausalLM]]:
    """Return the architectures known so far for "gguf" or "safetensors" files, by name."""
    return _GGUF if file_format == "gguf" else _HF
