"""Variants of a given model: the modules that a variant adds, and what of the model is trained with them.

The given model is their trunk: all three begin as its function, bit for bit, so that they can be merged. The model itself
is frozen, has low-rank adapters (LoRA, arXiv 2106.09685) that are added to its weights afterwards, or is trained whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from components.shared.models.build import MODULES
from components.shared.models.grafting import graft, memory_shape, refinement_shape
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.training.low_rank import adapt

from .settings import Given


def with_modules(model: PreTrainedModel, variant: str, given: Given, seed: int) -> PreTrainedModel:
    """The model with the variant's module, closed; the standard variant has none.

    :param variant: standard, memory or reasoning.
    :param seed: of the module's weights.
    :raises ConfigError: the module does not go with the model.
    """
    if variant == "memory":
        memory = memory_shape(
            model, layer=given.memory_layer, size=given.memory_size, heads=given.memory_heads,
            chunk=given.memory_chunk,
        )  # fmt: skip
        return graft(model, memory=memory, seed=seed)
    if variant == "reasoning":
        refinement = refinement_shape(
            width=given.refinement_width, size=given.refinement_size, heads=given.refinement_heads,
            steps=given.refinement_steps, prior=given.refinement_prior, beta=given.refinement_beta,
        )  # fmt: skip
        return graft(model, refinement=refinement, seed=seed)
    return model


def prepare_training(model: PreTrainedModel, given: Given, seed: int) -> bool:
    """Say which weights learn, in place, and put adapters in where they do. What learns is float32.

    :returns: whether there is anything to train.
    """
    inner = model.inner if isinstance(model, ForgeWrapped) else model
    if model.device.type == "cpu":  # where nothing runs in two types at once
        model.float()
    inner.requires_grad_(given.trains == "all")
    if given.trains == "lora":
        adapt(inner, given.rank, torch.Generator().manual_seed(seed))
    for name in MODULES:
        if isinstance(model, ForgeWrapped) and (module := getattr(model, name, None)) is not None:
            module.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return any(parameter.requires_grad for parameter in model.parameters())


def trunk_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """A given model's tensors by their names, where they lie."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
