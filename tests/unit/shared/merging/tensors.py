"""Merge methods on tensors in memory, with the numbers of a test and the defaults for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from components.shared.merging.inputs import MergeInputs, MergeParameters, TensorInMemory
from components.shared.merging.registry import merge_method


def parameters_of(
    name: str, models: int, *, seed: int = 0, thresholds: Sequence[float] | None = None, **numbers: Any
) -> MergeParameters:
    """Numbers that the method does not have are passed over; a list is one number a model."""
    own: list[dict[str, float]] = [{} for _ in range(models)]
    common = {}
    for parameter in merge_method(name).parameters:
        value = numbers.get(parameter.name, 1 / models if parameter.name == "weight" else parameter.default)
        if not parameter.per_model:
            common[parameter.name] = value
            continue
        values = value if isinstance(value, list) else [value] * models
        for index, parent in enumerate(own):
            parent[parameter.name] = values[index]
    return MergeParameters("w", own, common, seed, thresholds)


def merge(name: str, inputs: MergeInputs, **numbers: Any) -> Tensor:
    """A whole tensor by a method."""
    method, parameters = merge_method(name), parameters_of(name, len(inputs.parents), **numbers)
    return method.merge(inputs, parameters, method.survey(TensorInMemory(inputs), parameters))
