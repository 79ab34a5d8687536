"""One token through a layer of a ternary Llama in two compiled calls.

At one token a layer's arithmetic takes microseconds, and what Python and torch do around each of its twenty operations
takes many times more. `fuse` gives the layers of a network, whose linear layers compute in integers, a way of their own
for a single token with a cache of keys and values:

    norm → q, k, v → rotation  │  the cache grows  │  attention → o → + → norm → gate, up → down → +

Each product quantises its input once for all matrices that share it. What comes out is what the layer computes, up to
float32's rounding. Anything else goes the layer's own way: several tokens, a mask, gradients, a changed weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from ..remote_code.coded import CodedLinear
from .kernels import KERNELS, PARALLEL, quantise

ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
KINDS = ("LlamaDecoderLayer", "Qwen2DecoderLayer")
"""Layers of transformers that compute as it is written here."""
KERNEL = next(iter(KERNELS.values()))


@njit(cache=True, nogil=True)
def normed(x, gain, eps, y):  # type: ignore[no-untyped-def]
    """RMSNorm of x (K,) into y; with eps < 0 there is none, and x is copied."""
    if eps < 0:
        y[:] = x
        return
    total = np.float32(0)
    for k in range(x.size):
        total += x[k] * x[k]
    factor = np.float32(1) / np.sqrt(total / np.float32(x.size) + eps)
    for k in range(x.size):
        y[k] = gain[k] * (x[k] * factor)


@njit(cache=True, nogil=True)
def product(digits, scales, bias, x, q, out, y):  # type: ignore[no-untyped-def]
    """Write y (N,) = W Q(x) + bias, W of digits (N, bytes) and a scale for each row; q and out are room to work in."""
    factors, sums = np.empty(1, np.float32), np.empty(1, np.int32)
    quantise(x.reshape(1, -1), q, factors, sums)
    KERNEL(digits, q, out, 0, digits.shape[0])
    for n in range(y.size):
        y[n] = np.float32(out[0, n] - sums[0]) * (scales[n] / factors[0])
    if bias.size:
        for n in range(y.size):
            y[n] += bias[n]


@njit(cache=True, nogil=True)
def before_cache(x, gain, eps, digits, scales, bias, q, out, work, cos, sin, rotated, y):  # type: ignore[no-untyped-def]
    """Norm, q, k and v of x (hidden,) into y, its first `rotated` heads turned by cos and sin (head size,)."""
    normed(x, gain, eps, work)
    product(digits, scales, bias, work, q, out, y)
    half = cos.size // 2
    for head in range(rotated):
        at = head * cos.size
        for i in range(half):
            low, high = y[at + i], y[at + half + i]
            y[at + i] = low * cos[i] - high * sin[i]
            y[at + half + i] = high * cos[half + i] + low * sin[half + i]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def attend(queries, keys, values, scaling, y):  # type: ignore[no-untyped-def]
    """Attention of queries (heads · size,) to keys and values (groups, T, size) into y (heads · size,)."""
    groups, length, size = keys.shape
    heads = queries.size // size
    weights = np.empty(length, np.float32)
    for head in range(heads):
        group = head * groups // heads
        query = queries[head * size : (head + 1) * size]
        largest = np.float32(-np.inf)
        for t in range(length):
            score = np.float32(0)
            for i in range(size):
                score += query[i] * keys[group, t, i]
            weights[t] = score * scaling
            largest = max(largest, weights[t])
        total = np.float32(0)
        for t in range(length):
            weights[t] = np.exp(weights[t] - largest)
            total += weights[t]
        said = y[head * size : (head + 1) * size]
        said[:] = 0
        for t in range(length):
            weight = weights[t] / total
            for i in range(size):
                said[i] += weight * values[group, t, i]


@njit(cache=True, nogil=True)
def after_cache(queries, keys, values, scaling, x, o, post, up, down, work, y):  # type: ignore[no-untyped-def]
    """Attention, o, norm, gate and up, down, and both sums: x (hidden,) is what the layer was given, y what it gives.

    o, up, down: (norm's gain, its eps, digits, scales, bias, q, out, result); post: gain and eps of the second norm.
    """
    said, wide = work
    attend(queries, keys, values, scaling, said)
    normed(said, o[0], o[1], said)
    product(o[2], o[3], o[4], said, o[5], o[6], o[7])
    for k in range(x.size):
        y[k] = x[k] + o[7][k]
    inner = o[7]
    normed(y, post[0], post[1], inner)
    product(up[2], up[3], up[4], inner, up[5], up[6], up[7])
    gated = up[7]
    half = wide.size
    for k in range(half):
        wide[k] = gated[k] / (np.float32(1) + np.exp(-gated[k])) * gated[half + k]
    normed(wide, down[0], down[1], wide)
    product(down[2], down[3], down[4], wide, down[5], down[6], down[7])
    for k in range(x.size):
        y[k] += down[7][k]


NOTHING = np.empty(0, np.float32)


@dataclass
class Joined:
    """Ternary matrices that share their input, one above the other, and room for their product."""

    digits: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    q: np.ndarray
    out: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, layers: list[Any]) -> Joined:
        """Linear layers that compute in integers."""
        integers = [layer.__dict__["ternary"] for layer in layers]
        packed = [each.packed for each in integers]
        digits = packed[0].digits if len(packed) == 1 else np.concatenate([each.digits for each in packed])
        first = 0
        for each in integers:  # the layers' own are rows of it, so that nothing is in memory twice
            rows = len(each.packed.digits)
            each.packed = replace(each.packed, digits=digits[first : first + rows])
            first += rows
        scales = np.concatenate([np.full(len(each.digits), each.scale, np.float32) for each in packed])
        biased = any(layer.bias is not None for layer in layers)
        bias = [
            np.zeros(layer.out_features, np.float32) if layer.bias is None else layer.bias.detach().numpy()
            for layer in layers
        ]
        rows, width = digits.shape
        return cls(
            digits,
            scales,
            np.concatenate(bias) if biased else NOTHING,
            np.zeros((1, 4 * width), np.int8),
            np.empty((1, rows), np.int32),
            np.empty(rows, np.float32),
        )

    def arrays(self) -> tuple[np.ndarray, ...]:
        """As the compiled functions take them."""
        return self.digits, self.scales, self.bias, self.q, self.out, self.y


def norm_of(layer: Any) -> tuple[np.ndarray, np.float32]:
    """Gain and eps of an RMSNorm; without one eps is −1."""
    if layer is None:
        return NOTHING, np.float32(-1)
    eps = getattr(layer, "variance_epsilon", None) or layer.eps
    return layer.weight.detach().numpy(), np.float32(eps)


class Fused:
    """What a layer needs for a single token."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.linears = [getattr(attention, name) for name in ATTENTION] + [getattr(mlp, name) for name in MLP]
        q, k, v, o, gate, up, down = self.linears
        self.first, self.post = norm_of(layer.input_layernorm), norm_of(layer.post_attention_layernorm)
        joined = [Joined.of([o]), Joined.of([gate, up]), Joined.of([down])]
        self.qkv = Joined.of([q, k, v])
        norms = (o.norm, None, down.norm)
        self.o, self.up, self.down = (
            (*norm_of(norm), *part.arrays()) for norm, part in zip(norms, joined, strict=True)
        )
        self.size = attention.head_dim
        self.queries, self.keys = q.out_features, k.out_features
        self.rotated = (self.queries + self.keys) // self.size
        self.scaling, self.slot = np.float32(attention.scaling), attention.layer_idx
        self.short = max(4 * part.digits.size for part in (self.qkv, *joined)) < PARALLEL
        self.work = np.empty(q.in_features, np.float32)
        self.wide = (np.empty(self.queries, np.float32), np.empty(gate.out_features, np.float32))

    def __call__(self, x: Tensor, position: tuple[Tensor, Tensor], cache: Any) -> Tensor:
        """X (1, 1, hidden) → the same shape; the cache grows by a token."""
        given = x.reshape(-1).numpy()
        cos, sin = (each.reshape(-1).numpy() for each in position)
        said = np.empty(len(self.qkv.y), np.float32)  # the cache keeps what is in it
        arrays = self.qkv
        before_cache(
            given, *self.first, arrays.digits, arrays.scales, arrays.bias, arrays.q, arrays.out, self.work, cos, sin,
            self.rotated, said,
        )  # fmt: skip
        whole = torch.from_numpy(said)
        k, v = (part.view(1, -1, 1, self.size) for part in whole[self.queries :].split(self.keys))
        keys, values = cache.update(k, v, self.slot)
        y = np.empty_like(given)
        after_cache(
            said[: self.queries], keys[0].numpy(), values[0].numpy(), self.scaling, given, self.o, self.post, self.up,
            self.down, self.wide, y,
        )  # fmt: skip
        return torch.from_numpy(y).view(x.shape)


def fuse(model: nn.Module) -> list[str]:
    """Let the layers whose linear layers all compute in integers take single tokens whole, in place; their paths."""
    fused = []
    for path, layer in model.named_modules():
        if type(layer).__name__ in KINDS and _fits(layer):
            layer.__dict__["fused"] = Fused(layer)
            layer.forward = MethodType(forward, layer)  # type: ignore[method-assign]
            fused.append(path)
    return fused


def _fits(layer: Any) -> bool:
    linears = [getattr(layer.self_attn, name) for name in ATTENTION] + [
        getattr(layer.mlp, name) for name in MLP
    ]
    integers = all(isinstance(each, CodedLinear) and "ternary" in each.__dict__ for each in linears)
    plain = [linears[index] for index in (0, 1, 2, 4, 5)]
    silu = isinstance(layer.mlp.act_fn, nn.SiLU) or type(layer.mlp.act_fn).__name__ == "SiLUActivation"
    return integers and silu and all(each.norm is None for each in plain)


def forward(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Any = None,
    use_cache: bool | None = False,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **kwargs: Any,
) -> Tensor:
    """The layer's own forward, a single token fused."""
    x, fused = hidden_states, self.__dict__["fused"]
    single = x.shape[0] == x.shape[1] == 1 and attention_mask is None and past_key_values is not None
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
    if (
        single
        and plain
        and (fused.short or torch.get_num_threads() == 1)  # long products are shared out among threads
        and position_embeddings is not None
        and all(each.__dict__["ternary"].is_current(each) for each in fused.linears)
    ):
        said: Tensor = fused(x, position_embeddings, past_key_values)
        return said
    whole: Tensor = type(self).forward(
        self,
        x,
        attention_mask=attention_mask,
        position_ids=position_ids,
        past_key_values=past_key_values,
        use_cache=use_cache,
        position_embeddings=position_embeddings,
        **kwargs,
    )
    return whole
