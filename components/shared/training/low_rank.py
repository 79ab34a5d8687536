"""Low-rank adaptation (LoRA, Hu et al., arXiv 2106.09685), through the quantiser where there is one.

W' = W + (α/r)·B·A with A (r, in) from N(0, 1/in) and B (out, r) zero. On a BitLinear W is the latent weight: the sum is
quantised in the forward pass and the gradient passes straight through, so that merging changes nothing, not even rounding.
W itself stays beside the change until it is merged: a change that is not kept is taken off again.

A model with changes on it has other names in its state: W, A and B of a layer are all saved with it, and restored into a
model that was adapted in the same way. Each W' of a plain layer is kept for the backward pass, a weight's size more memory,
unless the layer's activations are computed again (`gradient_checkpointing`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from components.shared.runtime.errors import InputError

SMALLEST = 16
"""Thinner layers are gates; a low-rank change of them is no saving."""
ORIGINAL, CHANGE = ".parametrizations.weight.original", ".parametrizations.weight.0."
"""In the names of an adapted model's state: a weight as it was, and what belongs to its change."""


class LowRank(nn.Module):
    """The parametrisation: weight (out, in) → weight + (alpha / rank)·B·A, rounded as the weight is stored."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        out, inner = weight.shape
        a = torch.randn(rank, inner, generator=generator) * inner**-0.5
        self.a = nn.Parameter(a.to(weight))
        self.b = nn.Parameter(weight.new_zeros(out, rank))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight, (out, in)."""
        with torch.autocast(weight.device.type, enabled=False):  # in fewer bits it would be merged as another
            return (weight + self.scale * torch.mm(self.b, self.a)).to(weight.dtype)


class Free(nn.Module):
    """The same without a bound on the rank: weight → weight + D, D zero at first."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.d = nn.Parameter(torch.zeros_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight, (out, in)."""
        return weight + self.d


def adapt(model: PreTrainedModel, rank: int | None, generator: torch.Generator) -> list[nn.Parameter]:
    """Freeze the model and put a change on its linear layers (α = r), but not on its output head; the new parameters.

    GPT-2's layers are Conv1D, with weights (in, out): a low-rank change is one either way round.

    :param rank: of LoRA; None: no bound on the rank.
    :param generator: draws A, on the CPU: the same on every rank of a group.
    :returns: what is to be trained.
    :raises InputError: there is no such layer.
    """
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    for path, module in list(model.named_modules()):
        wide = isinstance(module, (nn.Linear, Conv1D)) and min(module.weight.shape) >= SMALLEST
        if wide and module is not head and "talk_head" not in path.split("."):
            change = (
                Free(module.weight)
                if rank is None
                else LowRank(module.weight, min(rank, *module.weight.shape), float(rank), generator)
            )
            parametrize.register_parametrization(module, "weight", change)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError(
            "the model has no linear layer that a change could be put on",
            where=type(model).__name__,
            why=f"none is an nn.Linear or a Conv1D of {SMALLEST} rows and columns",
            fix="give a model of another architecture",
        )
    return trained


def merge(model: nn.Module, *, keep: bool = True) -> None:
    """Put W' in the place of W, or with `keep=False` W as it was, and take the changes off; all is trainable again.

    Of an adapted model and its copies one can be merged: they share the classes that are undone here.
    """
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=keep)
    model.requires_grad_(True)


def unchanged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the model as it was before `adapt`, out of its state with changes on it; any other as it is."""
    return {name.replace(ORIGINAL, ".weight"): t for name, t in state.items() if CHANGE not in name}
