"""Copies of a model's weights that a stage keeps: as it found them, and the average of those that learn.

Neither is a second model. What a stage found waits in host memory until the stage is over; an average is of what learns
alone, which with adapters is less than a hundredth of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Found(nn.Module):
    """The model as a stage found it, in host memory.

    :param model: its state is copied; tied weights once.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        state = model.state_dict()
        copies: dict[tuple[int, torch.Size], nn.Parameter] = {}
        for tensor in state.values():
            place = tensor.data_ptr(), tensor.shape
            if place not in copies:
                copies[place] = nn.Parameter(tensor.detach().to("cpu", copy=True), requires_grad=False)
        self.names = list(state)
        self.weights = nn.ParameterList(copies[t.data_ptr(), t.shape] for t in state.values())

    def put_back(self, model: nn.Module) -> None:
        """Make the model what it was.

        :param model: of the same names.
        """
        model.load_state_dict(dict(zip(self.names, self.weights, strict=True)))


class WeightAverage(nn.Module):
    """The exponential moving average (EMA) of what learns of a model; it begins with what that is at first.

    :param model: whose parameters that ask for gradients are averaged.
    :param decay: share of the average that a step leaves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.means = nn.ParameterList(
            nn.Parameter(each.detach().clone(), requires_grad=False) for each in _learning(model)
        )
        self.update_all = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of a step, which are whole here."""
        self.update_all(list(self.means), [_whole(each.detach()) for each in _learning(model)], 0)

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> None:
        """Give the model the average in place of its weights."""
        for weight, mean in zip(_learning(model), self.means, strict=True):
            weight.copy_(mean)


def _learning(model: nn.Module) -> list[nn.Parameter]:
    """What learns, in an order that is the same while the model is cut into shards."""
    return [each for each in model.parameters() if each.requires_grad]


def _whole(tensor: Tensor) -> Tensor:
    """A tensor that is cut over ranks, gathered; any other as it is."""
    found: Any = getattr(tensor, "full_tensor", None)
    return tensor if found is None else found()
