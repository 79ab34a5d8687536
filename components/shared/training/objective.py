"""The loss of a part as a module: what data parallel wrappers wrap.

A phase's loss calls its model as it likes: several times, parts of it, its head alone. Wrappers (DDP, FSDP2, DeepSpeed)
want one forward pass of one module, at whose ends they gather weights and begin to reduce gradients. So the loss itself is
that module, and what learns is its child: inside `forward` every weight that is not a layer's own is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

LossOf = Callable[[Any], tuple[Tensor, Mapping[str, Tensor | float]]]


class Objective(nn.Module):
    """The loss of the part that was `given`; what else was measured of it is left in `measured`.

    The part is no argument of `forward`: wrappers move, cast and rebuild arguments.

    :param learner: what is trained.
    :param dtype: of the forward pass, by autocast; None: that of the weights.
    """

    def __init__(self, learner: nn.Module, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.learner = learner
        self.dtype = dtype
        self.device_kind = next(learner.parameters()).device.type
        self.measured: Mapping[str, Tensor | float] = {}
        self._given: tuple[LossOf, Any, float] | None = None

    def give(self, loss_of: LossOf, part: Any, weight: float) -> None:
        """What the next forward pass is of."""
        self._given = loss_of, part, weight

    def forward(self) -> Tensor:
        """The part's weighted loss, a scalar with its graph."""
        assert self._given is not None
        loss_of, part, weight = self._given
        loss, self.measured = self.evaluate(loss_of, part)
        return weight * loss

    def evaluate(self, loss_of: LossOf, part: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """The loss of a part in the precision asked for; it may be called in several threads at once."""
        with torch.autocast(self.device_kind, self.dtype, enabled=self.dtype is not None):
            return loss_of(part)
