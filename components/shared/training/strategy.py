"""How one step's gradients are taken and applied: on one device, or over the ranks of a group.

A strategy owns what differs: wrapping, the backward pass, the norm of the gradient, the optimisers' step, and what of a
snapshot is whole on every rank or a shard of each. `TrainingLoop` is the same above all of them.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.ranks import group

from .objective import Objective

Refuse = Callable[[float], None]
"""Raises when the norm of the gradient is not finite, on every rank alike."""


class Alone:
    """One process: the weights are the model's own, nothing is wrapped."""

    def __init__(self, objective: Objective, optimizers: Mapping[str, Optimizer], clip: float) -> None:
        self.objective = objective
        self.optimizers = dict(optimizers)
        self.clip = clip

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the norm is taken over."""
        return list(self.objective.learner.parameters())

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()

    def gradient(self, last: bool) -> float:
        """Forward and backward pass of the part that the objective was given.

        :param last: of this rank's parts of the step.
        :returns: its weighted loss.
        """
        loss = self.objective()
        loss.backward()
        return float(loss.detach())

    def apply(self, refuse: Refuse) -> float:
        """Clip, look at the norm, and let the optimisers step.

        :returns: the norm of the gradient, before it was clipped.
        """
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        refuse(norm)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return norm

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, the model can be called as it is outside of the loop."""
        yield

    def share_out(self, snapshot: Snapshot) -> None:
        """Have the snapshot save shards where there are any."""

    def finish(self) -> None:
        """The learner is a plain module again, whole on every rank."""


class Replicas(Alone):
    """torch DDP (Li et al., arXiv 2006.15704): whole weights on every rank, gradients averaged."""

    def __init__(self, objective: Objective, optimizers: Mapping[str, Optimizer], clip: float) -> None:
        super().__init__(objective, optimizers, clip)
        # Not every step uses every parameter: a talk head, a memory's gate, an expert.
        self.wrapped: DistributedDataParallel | None = DistributedDataParallel(
            objective, broadcast_buffers=False, find_unused_parameters=True
        )

    def gradient(self, last: bool) -> float:
        """As alone; gradients meet in the backward pass of the last part."""
        assert self.wrapped is not None
        with contextlib.nullcontext() if last else self.wrapped.no_sync():
            loss = self.wrapped()
            (loss * group.world()).backward()  # DDP divides by the number of ranks, and shares add up to one
        return float(loss.detach())

    def finish(self) -> None:
        """Take DDP's hooks off the parameters: its reducer does that when it goes."""
        self.wrapped = None
        gc.collect()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that is cut over ranks; any other as it is."""
    found: Any = getattr(tensor, "to_local", None)
    return tensor if found is None else found()
