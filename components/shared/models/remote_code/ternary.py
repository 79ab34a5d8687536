"""Ternary weights and int8 activations: BitNet b1.58 (Ma et al., arXiv 2402.17764).

    s = mean|W|      W_q = clip(round(W / s), ±1) · s        x_q = round(127 x / max|x|) · max|x| / 127 per token

s is a mean in float64 rounded to float32, so that `to_latent` can give weights whose quantisation is exactly
a stored one, whatever the tensor's size.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TINY = 1e-8
DIGITS = 3 ** np.arange(5)
TRITS = (np.arange(243)[:, None] // DIGITS % 3 - 1).astype(np.int8)  # a byte's five trits


def scale_of(w):
    """The absmean scale of a tensor, 0-d float32, at least 1e-8."""
    return w.abs().mean(dtype=torch.float64).clamp_min(TINY).float()


def trits_of(w, scale):
    """W (any shape), float → its trits −1, 0, 1, float32."""
    return (w.float() / scale).round_().clamp_(-1, 1)


def ternarise(w):
    """W → W_q, float32."""
    scale = scale_of(w)
    return trits_of(w, scale).mul_(scale)


def quantise_activations(x):
    """Activations x (…, d) in 8 bits per token, absmax."""
    scale = 127 / x.abs().amax(-1, keepdim=True).clamp_min_(1e-5)
    return (x * scale).round_().clamp_(-128, 127).div_(scale)


class StraightThrough(torch.autograd.Function):
    """(x, value) → value, with the gradient of the identity in x."""

    @staticmethod
    def forward(ctx, x, value):
        """The value."""
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        """The gradient goes to x, none to the value."""
        return gradient, None


def straight_through(x, quantise, strength=1.0):
    """The value x + strength·(quantise(x) − x), exactly quantise(x) at strength 1; the gradient is that of x."""
    with torch.no_grad():
        value = quantise(x).to(x.dtype)
        if strength != 1.0:
            value = torch.lerp(x, value, strength)
    return StraightThrough.apply(x, value) if torch.is_grad_enabled() and x.requires_grad else value


class BitLinear(nn.Linear):
    """A linear layer trained through its own quantisation; a bias stays as it is.

    strength: λ of the warm-up, 0 = the plain layer, 1 = ternary weights and int8 activations.
    norm: an RMSNorm of the input, for layers that have no norm in front of them.
    """

    def __init__(self, in_features, out_features, *, bias=False, norm=False, strength=1.0, device=None):
        super().__init__(in_features, out_features, bias=bias, device=device)
        self.norm = nn.RMSNorm(in_features, 1e-6, device=device) if norm else None
        self.strength = strength
        self.cached: Any = None

    def forward(self, x):
        """Activations x (…, in) → (…, out)."""
        x = x if self.norm is None else self.norm(x)
        return F.linear(straight_through(x, quantise_activations, self.strength), self.quantised(), self.bias)

    def quantised(self):
        """The weight that is used.

        Without gradients it is kept until the weight changes, or what a parametrised one is made of: generation
        asks at every token.
        """
        made: Any = self._modules.get("parametrizations")
        made = None if "weight" in self._parameters else made.weight
        if torch.is_grad_enabled():
            return straight_through(self.weight, ternarise, self.strength)
        sources = [self.weight] if made is None else list(made.parameters())
        versions = [each._version for each in sources], self.strength
        kept = self.cached
        if (
            kept is None
            or kept[1] != versions
            or any(a is not b for a, b in zip(kept[0], sources, strict=True))
        ):
            weight = self.weight if made is None else made()
            self.cached = sources, versions, straight_through(weight, ternarise, self.strength)
        return self.cached[2]

    def train(self, mode=True):
        """Forget the quantised weight, and switch the mode."""
        self.cached = None
        return super().train(mode)

    def _apply(self, fn, recurse=True):
        self.cached = None
        return super()._apply(fn, recurse)


def pack_ternary(trits):
    """Trits (any shape, values −1, 0, 1) → uint8, base 3, five a byte, little end first, zeros as padding.

    :raises ValueError: there are other values.
    """
    flat = np.asarray(trits, dtype=np.int8).reshape(-1)
    if flat.size and (flat.min() < -1 or flat.max() > 1):
        raise ValueError(f"trits are −1, 0 and 1; found {flat.min()} to {flat.max()}")
    groups = np.pad(flat, (0, -flat.size % 5)).reshape(-1, 5)
    return ((groups + 1) @ DIGITS).astype(np.uint8)


def unpack_ternary(code, count):
    """The first `count` trits of a packed array, int8.

    :raises ValueError: the array is longer or shorter than that takes, or holds a byte that is no five trits.
    """
    code = np.asarray(code, dtype=np.uint8)
    if code.size != -(-count // 5) or (code.size and code.max() > 242):
        raise ValueError(f"{code.size} bytes are no base-3 code of {count} trits")
    return TRITS[code].reshape(-1)[:count]


def to_latent(trits, scale):
    """Weights whose quantisation is exactly (trits, scale): ±s/f and 0, where f is the share of non-zeros.

    trits: (…) −1, 0, 1; scale: 0-d float32, as `scale_of` gives it. Float32 cannot hold s/f exactly: what
    rounding leaves of the sum n·s goes in steps of one ulp to some of the non-zeros and, below one ulp, to a
    zero, far from changing a trit. → latents, float32, same shape.
    """
    trits = trits.float()
    sign, n, k = trits.flatten().double(), trits.numel(), int(trits.count_nonzero())
    if k == 0:
        return torch.zeros_like(trits)
    scale = scale.double().item()
    size = np.float32(n * scale / k)
    if k * float(size) > n * scale:
        size = np.nextafter(size, np.float32(0))
    ulp = float(np.nextafter(size, np.float32(np.inf))) - float(size)
    rest = n * scale - k * float(size)
    steps = min(int(rest / ulp), k)
    latent = sign * float(size)
    nonzero = sign.nonzero()[:, 0]
    latent[nonzero[:steps]] += sign[nonzero[:steps]] * ulp
    if k < n:
        rest -= steps * ulp
        zeros = (sign == 0).nonzero()[
            : 1 + int(4 * rest / scale), 0
        ]  # one, but for gigantic and nearly empty tensors
        latent[zeros] = rest / len(zeros)
    return latent.float().reshape(trits.shape)
