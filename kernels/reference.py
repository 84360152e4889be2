"""Every operation in plain torch, on any device: the oracle of the tests and the fallback of `dispatch`.

Shapes: T tokens of one step (all sequences together), H query heads, K key/value heads, D head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .dispatch import kernel

# The largest numbers are sought among the maxima of runs this long: a fifth of torch.topk's time on a CPU.
_RUN = 64


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What attention needs beyond its tensors; scale multiplies the scores, softcap 0 means none."""

    scale: float
    window: int | None = None
    softcap: float = 0.0


@kernel("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply x [T, in] by weight [out, in]; computes and returns in the weight's type."""
    return F.linear(x.to(weight.dtype), weight, bias)


@kernel("rms_norm")
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis by its root mean square, in float32 (Zhang and Sennrich, 2019)."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


@kernel("rope")
def rope(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Rotate x [T, heads, D] by tables [T, R/2] (Su et al., 2021); entries beyond R pass unchanged.

    Pairs are (i, i + R/2), or (2i, 2i + 1) when interleaved, as Llama's GGUF files store their rows.
    """
    rotary = 2 * cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    turned, rest = x[..., :rotary].float(), x[..., rotary:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    else:
        a, b = turned.chunk(2, dim=-1)
        turned = torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    return torch.cat((turned.to(x.dtype), rest), dim=-1) if rest.shape[-1] else turned.to(x.dtype)


@kernel("silu_mul")
def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """Gate `up` by SiLU (Shazeer, 2020)."""
    return F.silu(gate) * up


@kernel("gelu_mul")
def gelu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """Gate `up` by the tanh form of GELU."""
    return F.gelu(gate, approximate="tanh") * up


@kernel("append")
def append(cache: Tensor, slots: Tensor, values: Tensor) -> None:
    """Write values [T, K, D] into cache [slots, K, D] at `slots` [T]."""
    cache.index_copy_(0, slots, values.to(cache.dtype))


@kernel("attend")
def attend(q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape) -> Tensor:
    """Attend the last n positions q [n, H, D] of one sequence to its keys and values [context, K, D].

    Query i stands at position context - n + i and sees the keys up to its own, `window` of them at most.
    """
    q = q.to(k.dtype)
    n, context = q.shape[0], k.shape[0]
    first_visible = 0 if shape.window is None else max(0, context - n + 1 - shape.window)
    if first_visible:
        k, v, context = k[first_visible:], v[first_visible:], context - first_visible
    q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
    if n == 1 and not shape.softcap:
        # One row of queries per key head: grouped heads become rows, and no key is copied for its group.
        grouped = q.reshape(k.shape[0], -1, q.shape[-1])
        out = F.scaled_dot_product_attention(grouped[None], k[None], v[None], scale=shape.scale)
        return out[0].reshape(1, -1, v.shape[-1])
    mask = _mask(n, context, shape.window, q.device)
    if shape.softcap:
        return _softcapped(q, k, v, shape, mask).transpose(0, 1)
    out = F.scaled_dot_product_attention(
        q[None],
        k[None],
        v[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=shape.scale,
        enable_gqa=q.shape[0] != k.shape[0],
    )
    return out[0].transpose(0, 1)


def _mask(n: int, context: int, window: int | None, device: torch.device) -> Tensor | None:
    """Return which key each query sees [n, context]; None where plain causal masking says the same."""
    windowed = window is not None and context > window
    if n == context and not windowed:
        return None
    at = torch.arange(context - n, context, device=device)[:, None]
    key = torch.arange(context, device=device)
    seen = key <= at
    if windowed and window is not None:
        seen &= key > at - window
    return seen


def _softcapped(q: Tensor, k: Tensor, v: Tensor, shape: AttentionShape, mask: Tensor | None) -> Tensor:
    """Attention whose scores are squeezed by cap·tanh(s/cap) (Gemma 2); q [H, n, D], k and v [K, context, D]."""
    n, context = q.shape[1], k.shape[1]
    if mask is None:
        mask = torch.ones(n, context, dtype=torch.bool, device=q.device).tril()
    grouped = q.reshape(k.shape[0], -1, n, q.shape[-1]).float()
    scores = grouped @ k[:, None].float().transpose(-1, -2) * shape.scale
    scores = shape.softcap * torch.tanh(scores / shape.softcap)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    out = weights @ v[:, None].float()
    return out.reshape(q.shape[0], n, -1).to(v.dtype)


@kernel("route")
def route(logits: Tensor, top_k: int, renormalise: bool) -> tuple[Tensor, Tensor]:
    """Choose each token's experts: logits [T, E] → weights and ids [T, top_k], by softmax over all experts."""
    weights, ids = logits.float().softmax(-1).topk(top_k, dim=-1)
    if renormalise:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights, ids


@kernel("softcap")
def softcap(x: Tensor, cap: float) -> Tensor:
    """Squeeze x into (-cap, cap)."""
    return cap * torch.tanh(x / cap)


@kernel("highest")
def highest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the `count` largest of x [n], or all: their places and values, the largest first, of equal ones the first.

    If any is NaN, so is the first value.
    """
    where = _contenders(x, count)
    values = x if where is None else x[where]
    order = values.argsort(descending=True, stable=True)[:count]
    return order if where is None else where[order], values[order]


def _contenders(x: Tensor, count: int) -> Tensor | None:
    """Return places, ascending, that surely include the `count` largest of x; None means all."""
    size = x.shape[0] // _RUN * _RUN
    if count >= size // _RUN:
        return None
    maxima = x[:size].view(-1, _RUN).amax(-1)
    if bool(maxima.isnan().any() or x[size:].isnan().any()):
        return None
    runs = (maxima >= maxima.topk(count).values[-1]).nonzero()
    ramp = torch.arange(_RUN, device=x.device)
    tail = torch.arange(size, x.shape[0], device=x.device)
    where = torch.cat([(runs * _RUN + ramp).flatten(), tail])
    values = x[where]
    return where[values >= values.topk(count).values[-1]]
