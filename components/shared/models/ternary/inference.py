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

PAYS = 1 << 24
"""Weights of a model from where on the kernels are ready before its weights are decoded, or soon after."""


def accelerate(model: nn.Module, *, least: int = 0) -> list[str]:
    """Let every ternary layer with int8 activations compute in integers, in place → the paths of these layers.

    What a layer computes is the same up to float32's rounding. It goes the plain way where gradients are asked for,
    where its input is not float32 on the CPU, and where it wears another weight: an expert's, or one that was loaded.

    :param least: nothing is done where all such layers together have fewer weights.
    """
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, CodedLinear) and module.spec.get("activations") == "int8"
    }
    if sum(layer.in_features * layer.out_features for layer in layers.values()) < least:
        return []
    done = []
    for path, module in layers.items():
        ternary = trits_of(module)
        if ternary is not None and module.code.device.type == "cpu":
            module.__dict__["ternary"] = Integers(pack(*ternary), module)
            module.forward = MethodType(forward, module)  # type: ignore[method-assign]
            module.decoded = None
            done.append(path)
    return done


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


class Integers:
    """A layer's packed weight, and whether it still is what the layer wears."""

    def __init__(self, packed: Packed, module: CodedLinear) -> None:
        self.packed, self.code, self.version = packed, module.code, module.code._version
        self.seen: Tensor | None = None
        self.same = True

    def __deepcopy__(self, memo: dict[int, Any]) -> Integers:
        """A copied layer's code is another tensor: it goes the plain way until it is accelerated itself."""
        return self

    def worn_by(self, module: CodedLinear) -> bool:
        if module.code is not self.code or self.code._version != self.version:
            return False
        worn = module.decoded
        if worn is not None and worn is not self.seen:
            own = decode(module.spec, self.code.numpy())
            self.seen, self.same = worn, np.array_equal(worn.detach().numpy(), own)
        return worn is None or self.same


def forward(self: CodedLinear, x: Tensor) -> Tensor:
    """CodedLinear.forward in integers."""
    integers: Integers = self.__dict__["ternary"]
    trained = torch.is_grad_enabled() and (x.requires_grad or self.norm is not None or self.bias is not None)
    if trained or x.dtype != torch.float32 or x.device.type != "cpu" or not integers.worn_by(self):
        return CodedLinear.forward(self, x)
    x = x if self.norm is None else self.norm(x)
    flat = x.detach().reshape(-1, self.in_features).contiguous().numpy()
    y = torch.from_numpy(multiply(integers.packed, flat, threads=torch.get_num_threads()))
    y = y.reshape(*x.shape[:-1], self.out_features)
    return y if self.bias is None else y + self.bias
