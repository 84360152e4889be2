"""The network of "pocket" in plain torch: a small Qwen3, and generation in lockstep to evaluate it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class PocketConfig:
    """Shape of the network; widths are multiples of 256 so that every block format applies."""

    vocab_size: int = 512
    hidden_size: int = 256
    intermediate_size: int = 512
    num_layers: int = 3
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 64
    context_length: int = 2048
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6


class Block(nn.Module):
    """One decoder layer: attention with normed queries and keys, then SwiGLU."""

    def __init__(self, config: PocketConfig) -> None:
        """Make the layer's weights."""
        super().__init__()
        self.config = config
        hidden, inner, head = config.hidden_size, config.intermediate_size, config.head_dim
        self.attn_norm = nn.Parameter(torch.ones(hidden))
        self.attn_q = nn.Linear(hidden, config.num_heads * head, bias=False)
        self.attn_k = nn.Linear(hidden, config.num_kv_heads * head, bias=False)
        self.attn_v = nn.Linear(hidden, config.num_kv_heads * head, bias=False)
        self.attn_q_norm = nn.Parameter(torch.ones(head))
        self.attn_k_norm = nn.Parameter(torch.ones(head))
        self.attn_output = nn.Linear(config.num_heads * head, hidden, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(hidden))
        self.ffn_gate = nn.Linear(hidden, inner, bias=False)
        self.ffn_up = nn.Linear(hidden, inner, bias=False)
        self.ffn_down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], past: "Past | None" = None) -> Tensor:
        """Run the layer on x [batch, tokens, hidden]."""
        config, (batch, tokens, _) = self.config, x.shape
        h = _norm(x, self.attn_norm, config.norm_eps)
        q = self.attn_q(h).view(batch, tokens, config.num_heads, config.head_dim)
        k = self.attn_k(h).view(batch, tokens, config.num_kv_heads, config.head_dim)
        v = self.attn_v(h).view(batch, tokens, config.num_kv_heads, config.head_dim)
        q = _rotate(_norm(q, self.attn_q_norm, config.norm_eps), rope).transpose(1, 2)
        k = _rotate(_norm(k, self.attn_k_norm, config.norm_eps), rope).transpose(1, 2)
        q, k, v = q.to(v.dtype), k.to(v.dtype), v.transpose(1, 2)
        if past is None:
            groups = config.num_heads // config.num_kv_heads
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = _attend_to_past(q, *past.append(k, v))
        x = x + self.attn_output(out.transpose(1, 2).reshape(batch, tokens, -1))
        h = _norm(x, self.ffn_norm, config.norm_eps)
        mlp: Tensor = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + mlp


class Past:
    """Keys and values of one layer for a batch that advances one token at a time."""

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor) -> None:
        """Reserve [batch, kv_heads, length, head_dim]."""
        self.keys, self.values, self.length = like.new_zeros(shape), like.new_zeros(shape), 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add one token's keys and values and give all so far."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class PocketNetwork(nn.Module):
    """The whole network, its output tied to its embedding."""

    def __init__(self, config: PocketConfig) -> None:
        """Make the weights, small at the output of each layer."""
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.output_norm = nn.Parameter(torch.ones(config.hidden_size))
        cos, sin = _rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                narrow = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * config.num_layers) ** 0.5 if narrow else 0.04)

    def hidden(self, ids: Tensor, start: int = 0, past: Sequence[Past] | None = None) -> Tensor:
        """Give the normed last hidden states [batch, tokens, hidden] of ids [batch, tokens]."""
        stop = start + ids.shape[1]
        assert isinstance(self.cos, Tensor)
        assert isinstance(self.sin, Tensor)
        rope = (self.cos[start:stop, None], self.sin[start:stop, None])
        x = self.token_embd(ids)
        for i, block in enumerate(self.blk):
            x = block(x, rope, past[i] if past is not None else None)
        return _norm(x, self.output_norm, self.config.norm_eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """Turn hidden states [..., hidden] into logits [..., vocab]."""
        return F.linear(hidden, self.token_embd.weight)


@dataclass(frozen=True, slots=True)
class Generation:
    """How to generate: which ids end it, how many tokens at most, and at what temperature (0 is greedy)."""

    eos_ids: frozenset[int]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


@torch.no_grad()
def generate(network: PocketNetwork, prompts: Sequence[Sequence[int]], how: Generation) -> list[list[int]]:
    """Continue every prompt, all in lockstep from position 0; an answer ends before its end-of-turn id."""
    device = network.token_embd.weight.device
    config, random = network.config, torch.Generator(device).manual_seed(how.seed)
    longest = max(map(len, prompts))
    total = min(longest + how.max_tokens, config.context_length)
    shape = (len(prompts), config.num_kv_heads, total, config.head_dim)
    past = [Past(shape, network.output_norm) for _ in range(config.num_layers)]
    outputs: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    current = torch.tensor([p[0] for p in prompts], device=device)
    for position in range(total - 1):
        logits = network.logits(network.hidden(current[:, None], position, past)[:, 0]).float()
        if how.temperature > 0:
            weights = torch.softmax(logits / how.temperature, dim=-1)
            chosen = torch.multinomial(weights, 1, generator=random)[:, 0].tolist()
        else:
            chosen = logits.argmax(-1).tolist()
        for i, prompt in enumerate(prompts):
            if position + 1 < len(prompt):
                chosen[i] = prompt[position + 1]
            elif not done[i]:
                done[i] = chosen[i] in how.eos_ids or len(outputs[i]) >= how.max_tokens
                if not done[i]:
                    outputs[i].append(chosen[i])
        if all(done):
            break
        current = torch.tensor(chosen, device=device)
    return outputs


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _rope_table(config: PocketConfig) -> tuple[Tensor, Tensor]:
    """Give cosines and sines [context, head_dim / 2]."""
    exponents = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    angles = torch.outer(torch.arange(config.context_length).float(), config.rope_theta**-exponents)
    return angles.cos(), angles.sin()


def _attend_to_past(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with q [batch, heads, 1, head_dim] to keys and values [batch, kv_heads, tokens, head_dim]."""
    grouped = q.view(q.shape[0], k.shape[1], -1, q.shape[-1])
    weights = torch.softmax(grouped @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
    return (weights @ v).view(q.shape)


def _rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the two halves of each head of x [batch, tokens, heads, head_dim]."""
    cos, sin = rope[0].to(x.dtype), rope[1].to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
