"""Passthrough: a model's tensors as they are, or scaled. With slices of several models it stacks their layers.

Source: Goddard et al., Arcee's MergeKit, arXiv 2403.13257, §3.1. A scale of 0 for what writes into the residual stream
makes copied layers that do nothing at first (Wu et al., LLaMA Pro, arXiv 2401.02415, §3.2).
"""

from __future__ import annotations

from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import Parameter, merge_method


@merge_method(
    "passthrough",
    pretty_name="Passthrough",
    paper="https://arxiv.org/abs/2403.13257",
    summary="one model as it is; from a mergekit file, layers of several models stacked",
    parameters=(
        Parameter("scale", 1.0, "what its weights are multiplied by", per_model=True, mergekit="scale"),
    ),
    base="unused",
    searched=False,
    most=1,
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The model times its scale."""
    scale = parameters.each("scale")[0]
    return inputs.parents[0] if scale == 1 else inputs.parents[0] * scale
