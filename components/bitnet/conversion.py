"""From a trained network to a ternary one: which layers, and where they need a norm in front of them.

BitNet b1.58 (arXiv 2402.17764) keeps embeddings, head, norms and other small tensors in high precision. A BitLinear wants
an input of unit scale (SubLN, arXiv 2310.11453): q, k, v, gate and up stand behind the block's own norm; o and down do
not, so they get one of their own. Which is which is looked up in a forward pass, not in the layers' names (placement.py).
A norm's gain starts at the input's measured root mean square, so that the layer begins near the function that it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.models.remote_code.coded import Coded
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.runtime.errors import InputError
from components.shared.training.head import hidden_states

from .placement import layer_of

SMALLEST = 16
"""Layers narrower than this are gates, routers and heads: a few bytes that decide much."""
KEPT = ("talk_head", "lm_head", "rates", "halt")
"""Output layers, and a Cognate's heads of thinking, memory and halting: in high precision at any width."""


def linears_to_convert(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Module path → linear layer that becomes ternary.

    A bias stays as it is, in full precision: BitNet's own networks have none, Qwen2's have a few.

    :raises InputError: there is none, or the model is ternary already.
    """
    head = model.get_output_embeddings()
    linears = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and min(module.weight.shape) >= SMALLEST
        and module is not head
        and not any(part in KEPT for part in path.split("."))
        and not is_router(model, path)
    }
    ternary = next((path for path, m in model.named_modules() if isinstance(m, (BitLinear, Coded))), None)
    if ternary is not None:
        raise InputError(
            "the model is ternary or coded already", where=ternary, fix="give the model as it was before"
        )
    if not linears:
        raise InputError(
            "the model has no linear layers to convert",
            where=type(model).__name__,
            why=f"none in its blocks is an nn.Linear of {SMALLEST} rows and columns",
            fix="give a Llama, Qwen, Mistral or another model whose blocks are made of nn.Linear",
        )
    return linears


def is_router(model: nn.Module, path: str) -> bool:
    """Whether a layer chooses among experts, or weighs a shared one: it stands beside them."""
    parent, _, name = path.rpartition(".")
    beside = hasattr(model.get_submodule(parent), "experts") and name.endswith("gate")
    return beside or "router" in path.split(".")


@torch.no_grad()
def root_mean_squares(
    model: PreTrainedModel, paths: Iterable[str], batches: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """Root of the mean square of each layer's inputs.

    :param paths: of the layers.
    :param batches: calibration batches, as `hidden_states` takes them (`input_ids`, a mask, places).
    :returns: path → root of the mean over all tokens and features.
    """
    sums: dict[str, list[float]] = {path: [0.0, 0.0] for path in paths}

    def add(path: str, x: Tensor) -> None:
        sums[path][0] += float(x.double().square().sum())
        sums[path][1] += x.numel()

    handles = [
        model.get_submodule(path).register_forward_pre_hook(lambda _, inputs, path=path: add(path, inputs[0]))
        for path in sums
    ]
    try:
        for batch in batches:
            hidden_states(model, **batch)
    finally:
        for handle in handles:
            handle.remove()
    for path, [_, count] in sums.items():
        if not count:  # an expert that no token reached: as the others of its layer
            alike = [sums[other] for other in sums if layer_of(other) == layer_of(path)]
            sums[path] = [sum(each) for each in zip(*alike, strict=True)]
    return {path: (total / max(count, 1)) ** 0.5 for path, (total, count) in sums.items()}


def convert(model: PreTrainedModel, gains: Mapping[str, float]) -> None:
    """Replace the linear layers by BitLinears of the same weights, in place.

    :param gains: path → gain of the norm that this layer gets; layers that are not named get none.
    """
    for path, linear in linears_to_convert(model).items():
        ternary = BitLinear(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            norm=path in gains,
            device=linear.weight.device,
        )
        ternary.weight, ternary.bias = linear.weight, linear.bias
        if ternary.norm is not None:
            nn.init.constant_(ternary.norm.weight, gains[path] or 1.0)
        model.set_submodule(path, ternary.train(linear.training))


def set_strength(model: nn.Module, strength: float) -> None:
    """Put λ of every BitLinear: 0 is the plain layer, 1 ternary weights and int8 activations."""
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.strength = strength
