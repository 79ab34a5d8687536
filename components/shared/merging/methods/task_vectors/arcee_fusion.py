"""Arcee Fusion: the changes of one model that matter most are taken over, the others are not.

Source: Arcee AI, Arcee Fusion (mergekit's documentation, 2025): an entry's importance is |θ − θ₀| times the divergence
KL(softmax(θ) ‖ softmax(θ₀)) of its row; entries whose importance is at least Q2 + 1.5·(Q3 − Q1) over the tensor are
taken, the base keeps the rest. mergekit reads the quartiles from a sample of a million entries, ours are exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...magnitude import nth_largest
from ...method import merge_method

TINY = 1e-8


def importance(model: Tensor, base: Tensor) -> Tensor:
    """|θ − θ₀| times the divergence of the row: float32 (…, n)."""
    p, q = (torch.softmax(tensor.float(), dim=-1) + TINY for tensor in (model, base))
    divergence = (p * (p / q).log()).sum(-1, keepdim=True)
    return (model - base).abs() * divergence


def least_importance(tensor: WholeTensor) -> float:
    """Q2 + 1.5·(Q3 − Q1) of the importances."""

    def pieces() -> Iterator[Tensor]:
        # A divergence of next to nothing may come out below 0: shifted, the order of magnitudes is that of the numbers.
        return tensor.map(lambda inputs: importance(inputs.parents[0], inputs.required_base).clamp_min_(0))

    count = sum(tensor.map(lambda inputs: inputs.parents[0].numel()))
    first, middle, third = (
        nth_largest(pieces, count - int(share * (count - 1))) for share in (0.25, 0.5, 0.75)
    )
    return middle + 1.5 * (third - first)


@merge_method(
    "arcee_fusion",
    pretty_name="Arcee Fusion",
    paper="https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md#arcee-fusion-arcee_fusion",
    summary="one model's most important changes on top of the base; nothing to choose",
    whole_rows=True,
    searched=False,
    most=1,
    survey=lambda tensor, parameters: least_importance(tensor),
)
def merge(inputs: MergeInputs, parameters: MergeParameters, least: float) -> Tensor:
    """The base, and the changes of at least this importance."""
    base, model = inputs.required_base, inputs.parents[0]
    return base + (model - base) * (importance(model, base) >= least)
