"""The output layer at one token in 8 bits: beside ternary layers it is most of what is read from memory for a token.

y = W x with W in int8 by each row's largest value and x in int8 by its own, as LLM.int8 quantises them (Dettmers et al.,
arXiv 2208.07339, without outliers apart). That is no exact way: logits are about a hundredth of their deviation apart, so
that it has to be asked for.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from .kernels import quantise


@njit(cache=True, nogil=True)
def byte_product(weights, scales, x, y):  # type: ignore[no-untyped-def]
    """Write y (N,) = W Q(x), W of int8 (N, K) and a scale for each row."""
    q, factors, sums = np.zeros((1, x.size), np.int8), np.empty(1, np.float32), np.empty(1, np.int32)
    quantise(x.reshape(1, -1), q, factors, sums)
    token = q[0]
    for n in range(y.size):
        row, total = weights[n], np.int32(0)
        for k in range(token.size):
            total += np.int32(row[k]) * np.int32(token[k])
        y[n] = np.float32(total) * (scales[n] / factors[0])


class ByteHead:
    """A linear layer's weight in int8, and the weight that it was made of."""

    def __init__(self, layer: nn.Linear) -> None:
        weight = layer.weight.detach().float()
        scales = weight.abs().amax(1).clamp_min(1e-12) / 127
        self.rows = (weight / scales[:, None]).round_().to(torch.int8).numpy()
        self.scales = scales.numpy()
        self.weight, self.version = layer.weight, layer.weight._version

    def is_current(self, layer: nn.Linear) -> bool:
        """Whether the layer's weight still is what this was made of."""
        return layer.weight is self.weight and layer.weight._version == self.version

    def __call__(self, x: Tensor) -> Tensor:
        """X (…, K) of one token → (…, N)."""
        y = np.empty(len(self.rows), np.float32)
        byte_product(self.rows, self.scales, x.detach().reshape(-1).numpy(), y)
        return torch.from_numpy(y).view(*x.shape[:-1], -1)


def in_bytes(model: Any) -> bool:
    """Let the model's output layer take single tokens in 8 bits, in place; whether it is one that can."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear) or layer.bias is not None or layer.weight.device.type != "cpu":
        return False
    layer.__dict__["bytes"] = ByteHead(layer)
    layer.forward = MethodType(forward, layer)  # type: ignore[method-assign]
    return True


def forward(self: nn.Linear, x: Tensor) -> Tensor:
    """nn.Linear.forward, one token in 8 bits."""
    head: ByteHead = self.__dict__["bytes"]
    single = x.numel() == self.in_features and x.dtype == torch.float32 and x.device.type == "cpu"
    if single and not torch.is_grad_enabled() and head.is_current(self):
        return head(x)
    return nn.functional.linear(x, self.weight, self.bias)
