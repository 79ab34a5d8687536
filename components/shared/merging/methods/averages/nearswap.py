"""NearSwap: the base moves towards another model, entry by entry, all the way where the two are near.

Source: alchemonaut, QuartetAnemoi-70B-t0.0001 (2024, model card): an entry a of the base becomes (1 − w)·a + w·b, with
w = min(1, t/|a − b|). So no entry moves by more than t.
"""

from __future__ import annotations

from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import Parameter, merge_method

LEAST_DIFFERENCE = 1e-6


def nearswap(base: Tensor, other: Tensor, most: float) -> Tensor:
    """The base moved by `most` at the most. Returns float32 of its shape."""
    difference = other.float() - base.float()
    share = (most / difference.abs().clamp_min_(LEAST_DIFFERENCE)).clamp_(0, 1)
    return difference.mul_(share).add_(base)


@merge_method(
    "nearswap",
    pretty_name="NearSwap",
    paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    summary="the base with a small step towards one other model in every entry",
    parameters=(
        Parameter("most", 0.0001, "how far an entry may move", low=0.0, mergekit="t", mergekit_required=True),
    ),
    searched=False,
    most=1,
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The base, moved towards the model."""
    return nearswap(inputs.required_base, inputs.parents[0], parameters["most"])
