"""Low-rank adaptation (LoRA, Hu et al., arXiv 2106.09685), through the quantiser where there is one.

W' = W + (α/r)·B·A with A (r, in) from N(0, 1/in) and B (out, r) zero. On a BitLinear W is the latent weight: the sum is
quantised in the forward pass and the gradient passes straight through, so that merging changes nothing, not even rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

SMALLEST = 16
"""Thinner layers are gates; a low-rank change of them is no saving."""


class LowRank(nn.Module):
    """The parametrisation: weight (out, in) → weight + (alpha / rank)·B·A."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        out, inner = weight.shape
        a = torch.randn(rank, inner, generator=generator) * inner**-0.5
        self.a = nn.Parameter(a.to(weight))
        self.b = nn.Parameter(weight.new_zeros(out, rank))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * torch.mm(self.b, self.a)


def adapt(model: PreTrainedModel, rank: int, generator: torch.Generator) -> list[nn.Parameter]:
    """Freeze the model and put LowRank on its linear layers (α = r), but not on its output head; the new parameters."""
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    learnt = []
    for path, module in model.named_modules():
        wide = isinstance(module, nn.Linear) and min(module.weight.shape) >= SMALLEST
        if wide and module is not head and "talk_head" not in path.split("."):
            low = LowRank(module.weight, min(rank, *module.weight.shape), float(rank), generator)
            parametrize.register_parametrization(module, "weight", low)
            learnt += [low.a, low.b]
    return learnt


def merge(model: nn.Module) -> None:
    """Put W' in the place of W and take the adapters off; everything is trainable again."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    model.requires_grad_(True)
