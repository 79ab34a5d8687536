"""Inference with the integer kernels in place of decoded weights.

A coded layer decodes its weight to float32 and multiplies in floating point: plain, and what travels with a model. For
a ternary weight with int8 activations the same function is a product of small integers, of two bits a weight in memory
in place of thirty-two. `accelerate` puts it there from outside; the layers stay what they are, in files and for all
else.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..remote_code.coded import CodedLinear
from ..remote_code.decoders import decode
from ..remote_code.ternary import unpack_ternary
from .kernels import Packed, multiply, pack
from .layer import fuse

MIN_WEIGHTS = 1 << 24
"""From so many weights of a model on the kernels are ready before its weights are decoded, or soon after."""


def accelerate(model: nn.Module, *, least: int = 0) -> list[str]:
    """Let every ternary layer with int8 activations compute in integers, in place.

    What a layer computes is the same up to float32's rounding. It goes the plain way where gradients are asked for,
    where its input is not float32 on the CPU, and where it has another weight: an expert's, or one that was loaded.

    :param least: nothing is done where all such layers together have fewer weights.
    :returns: the paths of the layers that compute in integers now.
    """
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, CodedLinear) and module.spec.get("activations") == "int8"
    }
    if sum(layer.in_features * layer.out_features for layer in layers.values()) < least:
        return []
    accelerated = []
    for path, module in layers.items():
        ternary = trits_of(module)
        if ternary is not None and module.code.device.type == "cpu":
            module.__dict__["ternary"] = IntegerWeight(pack(*ternary), module)
            module.forward = MethodType(forward, module)  # type: ignore[method-assign]
            module.decoded = None
            accelerated.append(path)
    fuse(model)
    return accelerated


def trits_of(module: CodedLinear) -> tuple[np.ndarray, float] | None:
    """The layer's weight as trits (out, in) int8 and their scale; None where it is not −s, 0 and s for one s."""
    code = module.code.cpu().numpy()
    if module.spec["codec"] == "ternary":
        rows, columns = module.spec["shape"]
        trits = unpack_ternary(code[4:], rows * columns).reshape(rows, columns)
        return trits, float(np.frombuffer(code[:4].tobytes(), "<f4")[0])
    weight = decode(module.spec, code)
    scale = np.abs(weight).max(initial=0.0)
    trits = np.sign(weight)
    return (trits.astype(np.int8), float(scale)) if np.array_equal(trits * scale, weight) else None


class IntegerWeight:
    """A layer's packed weight, and whether it still is the one that the layer computes with."""

    def __init__(self, packed: Packed, module: CodedLinear) -> None:
        self.packed, self.code, self.version = packed, module.code, module.code._version
        self.compared: Tensor | None = None
        self.equal = True

    def __deepcopy__(self, memo: dict[int, Any]) -> IntegerWeight:
        """A copied layer's code is another tensor: it goes the plain way until it is accelerated itself."""
        return self

    def is_current(self, module: CodedLinear) -> bool:
        """Whether the layer's weight is still the packed one: its code is unchanged, and so is what was decoded."""
        if module.code is not self.code or self.code._version != self.version:
            return False
        decoded = module.decoded
        if decoded is not None and decoded is not self.compared:
            own = decode(module.spec, self.code.numpy())
            self.compared, self.equal = decoded, np.array_equal(decoded.detach().numpy(), own)
        return decoded is None or self.equal


def forward(self: CodedLinear, x: Tensor) -> Tensor:
    """CodedLinear.forward in integers: x (…, in) → (…, out)."""
    integers: IntegerWeight = self.__dict__["ternary"]
    needs_grad = torch.is_grad_enabled() and (
        x.requires_grad or self.norm is not None or self.bias is not None
    )
    if needs_grad or x.dtype != torch.float32 or x.device.type != "cpu" or not integers.is_current(self):
        return CodedLinear.forward(self, x)
    x = x if self.norm is None else self.norm(x)
    flat = x.detach().reshape(-1, self.in_features).contiguous().numpy()
    y = torch.from_numpy(multiply(integers.packed, flat, threads=torch.get_num_threads()))
    y = y.reshape(*x.shape[:-1], self.out_features)
    return y if self.bias is None else y + self.bias
