"""Sixteen bits on disk, thirty-two in memory: what a compressed model holds beside its coded layers.

config.json keeps naming float32, so that loading (ours, and that of plain transformers) brings the tensors back to it,
for inference and for training alike. float16 and not bfloat16: at the size of weights it has eight times the resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .remote_code.ternary import BitLinear


@torch.no_grad()
def round_to_half(model: nn.Module, coded: Iterable[nn.Module] = ()) -> None:
    """Round the float32 tensors that are stored as they are to float16 values, in place; they stay float32.

    Left alone are weights of BitLinears, which are stored as trits, those of the modules `coded`, buffers that are not
    stored at all (the frequencies of rotary embeddings), and tensors with a value beyond float16's 65504.
    """
    as_codes = [module for module in model.modules() if isinstance(module, BitLinear)] + list(coded)
    left = {id(module._parameters.get("weight")) for module in as_codes}
    for tensor in model.state_dict(keep_vars=True).values():
        if tensor.dtype == torch.float32 and id(tensor) not in left:
            half = tensor.half()
            if half.isfinite().all():
                tensor.copy_(half)


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, the float32 ones in float16 if it holds all of them exactly: a file has one dtype."""
    floats = [tensor for tensor in tensors.values() if tensor.dtype == torch.float32]
    exact = all(torch.equal(tensor.half().float(), tensor) for tensor in floats)
    return {
        name: tensor.half() if exact and tensor.dtype == torch.float32 else tensor
        for name, tensor in tensors.items()
    }
