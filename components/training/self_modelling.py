"""Stage 9: the network predicts its own activations, and grows simpler by becoming predictable.

Premakumar et al., "Unexpected benefits of self-modeling in neural systems" (arXiv 2407.10188):
L = w_c·L_task + w_s·MSE(â, a), with a the activations of a chosen hidden layer and â a linear read-out of the network's
last one. The gradient flows into the target as well as into the prediction: that is where the regularisation comes from. It
narrows the weights and lowers the learning coefficient; it is not expected to raise accuracy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
    """Standard deviation of all matrix weights: the width of the distribution that self-modelling narrows."""
    flat = torch.cat([p.detach().flatten().float() for p in model.parameters() if p.ndim >= 2])
    return float(flat.std())
