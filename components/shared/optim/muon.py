"""Muon: the momentum of a matrix, made orthogonal (Jordan 2024, kellerjordan.github.io/posts/muon).

    B ← μ·B + (1 − μ)·g      u ← μ·B + (1 − μ)·g      w ← (1 − lr·decay)·w − lr·0.2·√max(out, in)·NS(u)

Updates have the size of AdamW's by Moonlight's factor (arXiv 2502.16982). NS is Newton–Schulz's iteration with Jordan's
quintic; what it computes in is chosen by `fast_dtype` and kept in the optimiser's state, so that a resumed run goes on in
it. Matrices of one shape go through it together. Where FSDP2 has cut them, each is gathered for the iteration, which all
ranks then do alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5
BATCH = 1 << 23
"""Entries that pass through the iteration together at most; a larger matrix goes alone."""


def fast_dtype(device: torch.device) -> str:
    """The dtype in which the device multiplies small matrices fast: float32 on a CPU, bfloat16 elsewhere.

    A CPU's kind is not asked, so that all give one result. Measured with torch 2.13 on 128 x 128: a Xeon with AVX-512 BF16
    takes 1.4 to 2.5 times as long in bfloat16 as in float32, and 27 times with AVX2 alone, where it is emulated. Who has a
    CPU with matrix units for bfloat16 (AMX) may ask for it: optimiser `muon_bfloat16`.
    """
    return "float32" if device.type == "cpu" else "bfloat16"


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Newton–Schulz: U·S·Vᵀ becomes U·S'·Vᵀ with every entry of S' near 1 (0.7 to 1.2).

    :param matrices: (n, rows, columns), rows <= columns.
    :param dtype: what is computed in.
    :returns: of that shape and dtype.
    """
    a, b, c = QUINTIC
    x = matrices.to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def muon_step(group: dict[str, Any], state: dict[Tensor, dict[str, Any]]) -> None:
    """Update the matrices of a group that have a gradient.

    :param group: an optimiser's: `params`, `lr`, `weight_decay` and `dtype`, a name.
    :param state: of the optimiser; holds the momentum.
    """
    lr, decay = group["lr"], group["weight_decay"]
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    if not parameters:
        return
    shards = [local(parameter) for parameter in parameters]
    grads = [local(parameter.grad) for parameter in parameters]
    for parameter, grad in zip(parameters, grads, strict=True):
        if "momentum_buffer" not in state[parameter]:
            state[parameter]["momentum_buffer"] = torch.zeros_like(grad)
    momenta = [local(state[parameter]["momentum_buffer"]) for parameter in parameters]
    torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
    torch._foreach_mul_(shards, 1 - lr * decay)
    for which in batches(parameters):  # one batch's updates in memory at a time
        own = torch._foreach_lerp([grads[i] for i in which], [momenta[i] for i in which], MOMENTUM)
        updates = [
            whole_like(parameters[i], update) if isinstance(parameters[i], DTensor) else update
            for i, update in zip(which, own, strict=True)
        ]
        stacked = torch.stack([_lying(update) for update in updates])
        for i, update in zip(which, orthogonalize(stacked, getattr(torch, group["dtype"])), strict=True):
            rows, columns = parameters[i].shape
            update = update.T if rows > columns else update
            shards[i].add_(
                rows_of_rank(parameters[i], update), alpha=-lr * 0.2 * math.sqrt(max(rows, columns))
            )


def local(tensor: Tensor) -> Tensor:
    """This rank's rows of a matrix that is cut over ranks (FSDP2); any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_like(parameter: Tensor, rows: Tensor) -> Tensor:
    """The matrix whose rows the ranks hold: Newton–Schulz needs all of them, and gives each rank the same.

    :param parameter: cut as `rows` are.
    """
    if not isinstance(parameter, DTensor):
        return rows
    return DTensor.from_local(
        rows, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    ).full_tensor()


def rows_of_rank(parameter: Tensor, matrix: Tensor) -> Tensor:
    """This rank's rows of a whole matrix: ranks have equally many, the last ones fewer or none."""
    if not isinstance(parameter, DTensor):
        return matrix
    mesh = parameter.device_mesh
    chunks = matrix.chunk(mesh.size(), dim=0)
    number = mesh.get_local_rank()
    return chunks[number] if number < len(chunks) else matrix[:0]


def batches(matrices: Sequence[Tensor]) -> Iterator[list[int]]:
    """Indices of matrices of one shape (lying or standing), as many as go together."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        alike[torch.Size(sorted(matrix.shape)), matrix.dtype, matrix.device].append(i)
    for (shape, _, _), which in alike.items():
        size = max(1, BATCH // shape.numel())
        for start in range(0, len(which), size):
            yield which[start : start + size]


def _lying(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
