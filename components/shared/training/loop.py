"""The one training step of all loops: accumulate, clip, look that all is finite, step, report, keep.

    loop = TrainingLoop(model.parameters(), {"model": optimizer}, clip=1.0, where="distill", fix="lower distill.lr")
    for step in range(loop.step, steps):
        update = loop.update(batches, loss_of, rate=warmup_cosine(step, steps), weights=token_shares(batches))
        …                                     # what the phase notes of the step, into its snapshot's state
        loop.end_step(update.metrics)         # report it; write a checkpoint when one is due

What is learnt, from what and along which schedule is the phase's; a loop that was killed is restored by its `Snapshot`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from components.shared.optim.schedule import set_rate
from components.shared.runtime.checkpoint.checkpoints import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.runtime.tracking.mlflow_tracker import Tracker
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import IGNORED, Batch

from .side_by_side import is_small, side_by_side

Metrics = dict[str, float]
Report = Callable[[int, Metrics], None]
"""Called after each step with the steps that the loop has taken by then, and what was measured in the last of them."""
Part = TypeVar("Part")
LossOf = Callable[[Part], tuple[Tensor, Mapping[str, Tensor | float]]]
"""The forward pass of one part of a step: part → scalar loss with its graph, and what else is worth a curve. It may be
called in several threads at once."""


class Update(NamedTuple):
    """One update of the weights.

    loss           the weighted sum over the parts
    gradient_norm  before it was clipped
    metrics        the weighted sums of what the parts' forward passes measured
    """

    loss: float
    gradient_norm: float
    metrics: Metrics


class TrainingLoop:
    """The steps of one training run over one set of parameters.

    :param parameters: what the gradient's norm is taken over and clipped.
    :param optimizers: by name; all of them step together.
    :param clip: largest norm of the gradient.
    :param where: names the loop in an error, as in `cognate.trunk`.
    :param fix: what to do when the loss is not finite.
    :param bfloat16: forward passes on a GPU in bfloat16; weights and optimiser states stay as they are.
    :param snapshot: what a checkpoint holds; its `state` is the phase's to fill. None: no checkpoints are written.
    :param checkpoints: where they go.
    :param report: called at the end of each step.
    :param step: steps taken before, where a restored loop goes on.
    :param offset: steps of earlier loops of the phase, by which its checkpoints are numbered through.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimizers: Mapping[str, Optimizer],
        *,
        clip: float,
        where: str,
        fix: str,
        bfloat16: bool = False,
        snapshot: Snapshot | None = None,
        checkpoints: Checkpoints | None = None,
        report: Report | None = None,
        step: int = 0,
        offset: int = 0,
    ) -> None:
        self.parameters = list(parameters)
        self.optimizers = dict(optimizers)
        self.clip, self.where, self.fix, self.bfloat16 = clip, where, fix, bfloat16
        self.snapshot, self.checkpoints, self.report = snapshot, checkpoints, report
        self.step, self.offset = step, offset

    def update(
        self, parts: Sequence[Part], loss_of: LossOf[Part], *, rate: float, weights: Sequence[float] = ()
    ) -> Update:
        """Accumulate the gradients of all parts and take one step of every optimiser.

        The forward pass of a part is done only when the backward pass of the one before it is, so that one graph is in
        memory at a time; with a small model on a CPU they go side by side, a graph a thread.

        :param rate: factor on the optimisers' own learning rates (`set_rate`).
        :param weights: of the parts' losses and metrics, as `token_shares` gives them; left out: 1 each.
        :raises PhaseFailed: the loss or its gradient is not finite; no weight has changed.
        """
        for optimizer in self.optimizers.values():
            set_rate(optimizer, rate)
            optimizer.zero_grad()
        loss, metrics = 0.0, dict[str, float]()
        weighted = list(zip(parts, weights or [1.0] * len(parts), strict=True))
        for part_loss, measured, weight in self._gradients(weighted, loss_of):
            loss += part_loss
            for name, value in measured.items():
                metrics[name] = metrics.get(name, 0.0) + weight * float(value)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise PhaseFailed(
                f"the loss is {loss} at step {self.step}, the norm of its gradient {norm}",
                where=self.where,
                fix=self.fix,
            )
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.step += 1
        return Update(loss, norm, metrics)

    def end_step(self, metrics: Metrics) -> None:
        """Report the step, and write a checkpoint when one is due.

        :raises Interrupted: the phase was asked to stop; a checkpoint is written.
        """
        if self.report is not None:
            self.report(self.step, metrics)
        if self.snapshot is not None and self.checkpoints is not None and self.checkpoints.due():
            self.snapshot.save(self.checkpoints, self.offset + self.step)
            self.checkpoints.stop_if_asked()

    def _gradients(
        self, parts: Sequence[tuple[Part, float]], loss_of: LossOf[Part]
    ) -> Iterator[tuple[float, Mapping[str, Tensor | float], float]]:
        """Accumulate the gradients of weighted parts; of each in turn its weighted loss, what was measured, its weight."""
        trainable = [parameter for parameter in self.parameters if parameter.requires_grad]

        def forward(part: Part, weight: float) -> tuple[Tensor, Mapping[str, Tensor | float]]:
            with torch.autocast(
                self._device, torch.bfloat16, enabled=self.bfloat16 and self._device == "cuda"
            ):
                loss, measured = loss_of(part)
            return weight * loss, measured

        def apart(piece: tuple[Part, float]) -> tuple[float, Mapping[str, Tensor | float], Sequence[Tensor]]:
            loss, measured = forward(*piece)
            return float(loss.detach()), measured, torch.autograd.grad(loss, trainable, allow_unused=True)

        if len(parts) > 1 and is_small(self.parameters):
            for (_, weight), (loss, measured, grads) in zip(parts, side_by_side(apart, parts), strict=True):
                for parameter, grad in zip(trainable, grads, strict=True):
                    if grad is not None:  # and it may be another parameter's too
                        parameter.grad = grad.clone() if parameter.grad is None else parameter.grad.add_(grad)
                yield loss, measured, weight
            return
        for part, weight in parts:
            loss_with_graph, measured = forward(part, weight)
            loss_with_graph.backward()
            yield float(loss_with_graph.detach()), measured, weight

    @property
    def _device(self) -> str:
        return self.parameters[0].device.type


def token_shares(batches: Sequence[Batch]) -> list[float]:
    """The share of each batch in all learnt tokens: weights under which its mean losses add up to the mean over tokens."""
    tokens = [int((batch.labels[:, 1:] != IGNORED).sum()) for batch in batches]
    return [count / sum(tokens) for count in tokens]


def report_to(
    progress: Progress, tracker: Tracker | None = None, *, prefix: str = "", offset: int = 0, every: int = 1
) -> Report:
    """Report steps to the person who watches, and to the curves of the run.

    :param prefix: stands before the metrics' names in the curves.
    :param offset: steps of earlier loops, after which these are counted on in the curves.
    :param every: steps between two points of a curve.
    """

    def report(step: int, metrics: Metrics) -> None:
        progress.step(step - progress.at, **metrics)
        if tracker is not None and step % every == 0:
            tracker.metrics({prefix + name: value for name, value in metrics.items()}, step=offset + step)

    return report
