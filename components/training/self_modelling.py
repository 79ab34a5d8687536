"""Stage 9: the network predicts its own activations, and grows simpler by becoming predictable.

Premakumar et al., "Unexpected benefits of self-modeling in neural systems" (arXiv 2407.10188):
L = w_c·L_task + w_s·MSE(â, a), with a the activations of a chosen hidden layer and â a linear read-out of the network's
last one. The gradient flows into the target as well as into the prediction: that is where the regularisation comes from. It
narrows the weights and lowers the learning coefficient; it is not expected to raise accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

PIECE = 1 << 22
"""Weights that are brought to float64 at a time."""


class SelfModel(nn.Linear):
    """â = W·h + b from the last hidden state to those of the chosen layer; starts at the mean, so at the variance of a."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def self_modelling_loss(predict: nn.Module, hidden_states: tuple[Tensor, ...], real: Tensor) -> Tensor:
    """MSE(â, a) over real tokens.

    :param predict: (n, d) of the last layer → (n, d), the read-out.
    :param hidden_states: embeddings and every layer's output, each (B, T, d); a is the middle layer's.
    :param real: (B, T) bool, the tokens that are not padding.
    :returns: scalar with its graph.
    """
    target = hidden_states[len(hidden_states) // 2][real]
    return torch.nn.functional.mse_loss(predict(hidden_states[-1][real]), target)


@torch.no_grad()
def weight_spread(model: nn.Module) -> float:
    """Standard deviation of all matrix weights: the width of the distribution that self-modelling narrows.

    In two passes over a few weights at a time: they are never copied as a whole.
    """
    count = sum(each.numel() for each in _matrices(model))
    mean = sum(float(piece.sum()) for each in _matrices(model) for piece in _pieces(each)) / count
    squares = sum(
        float((piece - mean).square_().sum()) for each in _matrices(model) for piece in _pieces(each)
    )
    return float((squares / (count - 1)) ** 0.5)


def _matrices(model: nn.Module) -> Iterator[Tensor]:
    """Every matrix once, one that has a change on it as it is with the change."""
    changed: list[Any] = [
        module for module in model.modules() if parametrize.is_parametrized(module, "weight")
    ]
    parts = {id(each) for module in changed for each in module.parametrizations.parameters()}
    for module in changed:
        yield module.weight
    for each in model.parameters():
        if each.ndim >= 2 and id(each) not in parts:
            yield each


def _pieces(matrix: Tensor) -> Iterator[Tensor]:
    """Its numbers in float64, a few at a time."""
    for piece in matrix.detach().flatten().split(PIECE):
        yield piece.double()
