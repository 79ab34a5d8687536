"""The one training step of all loops: accumulate, clip, look that all is finite, step, report, keep.

    loop = TrainingLoop(model, {"model": optimizer}, engine=engine, clip=1.0, where="distill", fix="lower distill.lr")
    for step in range(loop.step, steps):
        update = loop.update(batches, loss_of, rate=warmup_cosine(step, steps), weights=token_shares(batches))
        …                                     # what the phase notes of the step, into its snapshot's state
        loop.end_step(update.metrics)         # report it; write a checkpoint when one is due
    loop.finish()                             # the model is plain and whole again

What is learnt, from what and along which schedule is the phase's; a loop that was killed is restored by its `Snapshot`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from components.shared.optim.schedule import set_rate
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.errors import ConfigError, PhaseFailed
from components.shared.runtime.ranks import group
from components.shared.runtime.tracking.mlflow_tracker import Tracker
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import IGNORED, Batch

from .choice import strategy_of
from .objective import Objective
from .settings import EngineSettings
from .shards import layers
from .side_by_side import is_small, side_by_side

ALONE = EngineSettings()
"""One process, one device."""

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
    """The steps of one training run of one module, on one device or over the ranks of a group.

    Every rank runs the same code and hands over the same parts: each takes its share of them. What comes back – loss, norm,
    metrics – is that of the whole step, on every rank.

    :param learner: what is trained: the gradient's norm is taken over its parameters. Until `finish` they may be shards.
    :param optimizers: by name; all of them step together. Their states are empty: `restore` comes after.
    :param clip: largest norm of the gradient.
    :param where: names the loop in an error, as in `cognate.trunk`.
    :param fix: what to do when the loss is not finite.
    :param engine: strategy, ranks, precision.
    :param bfloat16: forward passes on a GPU in bfloat16 where `engine.precision` is auto; weights and optimiser states stay
        as they are.
    :param snapshot: what a checkpoint holds; its `state` is the phase's to fill. None: no checkpoints are written.
    :param checkpoints: where they go.
    :param report: called at the end of each step.
    :param step: steps taken before, where a restored loop goes on.
    :param offset: steps of earlier loops of the phase, by which its checkpoints are numbered through.
    """

    def __init__(
        self,
        learner: nn.Module,
        optimizers: Mapping[str, Optimizer],
        *,
        clip: float,
        where: str,
        fix: str,
        engine: EngineSettings = ALONE,
        bfloat16: bool = False,
        snapshot: Snapshot | None = None,
        checkpoints: Checkpoints | None = None,
        report: Report | None = None,
        step: int = 0,
        offset: int = 0,
    ) -> None:
        self.engine, self.where, self.fix = engine, where, fix
        self.snapshot, self.checkpoints, self.report = snapshot, checkpoints, report
        self.step, self.offset = step, offset
        self.objective = Objective(learner, _dtype(engine, bfloat16, next(learner.parameters()).device))
        if engine.gradient_checkpointing:
            checkpoint_activations(learner)
        if engine.compile:
            for layer in layers(learner):  # phases call parts of a model, and all of its layers
                layer.compile()
        self.strategy = strategy_of(engine, self.objective, optimizers, clip)
        if snapshot is not None:
            self.strategy.share_out(snapshot)
        self._names: list[str] = []

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
        for optimizer in self.strategy.optimizers.values():
            set_rate(optimizer, rate)
        self.strategy.zero_grad()
        loss, metrics = 0.0, dict[str, float]()
        weighted = list(zip(parts, weights or [1.0] * len(parts), strict=True))
        for part_loss, measured, weight in self._gradients(share_of_rank(weighted), loss_of):
            loss += part_loss
            for name, value in measured.items():
                metrics[name] = metrics.get(name, 0.0) + weight * float(value)
        loss, metrics = self._over_ranks(loss, metrics)
        if not math.isfinite(loss):
            self._refuse(loss, math.nan)
        norm = self.strategy.apply(lambda norm: None if math.isfinite(norm) else self._refuse(loss, norm))
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

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the learner can be called outside of a step, as for an evaluation; on all ranks together."""
        return self.strategy.whole()

    def finish(self) -> None:
        """The end of the loop: the learner is a plain module again, whole on every rank."""
        self.strategy.finish()

    def _gradients(
        self, parts: Sequence[tuple[Part, float]], loss_of: LossOf[Part]
    ) -> Iterator[tuple[float, Mapping[str, Tensor | float], float]]:
        """Accumulate the gradients of weighted parts; of each in turn its weighted loss, what was measured, its weight."""
        if len(parts) > 1 and self.engine.strategy == "single" and is_small(self.strategy.parameters):
            yield from self._side_by_side(parts, loss_of)
            return
        for number, (part, weight) in enumerate(parts, 1):
            self.objective.give(loss_of, part, weight)
            yield self.strategy.gradient(number == len(parts)), self.objective.measured, weight

    def _side_by_side(
        self, parts: Sequence[tuple[Part, float]], loss_of: LossOf[Part]
    ) -> Iterator[tuple[float, Mapping[str, Tensor | float], float]]:
        trainable = [parameter for parameter in self.strategy.parameters if parameter.requires_grad]

        def apart(piece: tuple[Part, float]) -> tuple[float, Mapping[str, Tensor | float], Sequence[Tensor]]:
            part, weight = piece
            loss, measured = self.objective.evaluate(loss_of, part)
            loss = weight * loss
            return float(loss.detach()), measured, torch.autograd.grad(loss, trainable, allow_unused=True)

        for (_, weight), (loss, measured, grads) in zip(parts, side_by_side(apart, parts), strict=True):
            for parameter, grad in zip(trainable, grads, strict=True):
                if grad is not None:  # and it may be another parameter's too
                    parameter.grad = grad.clone() if parameter.grad is None else parameter.grad.add_(grad)
            yield loss, measured, weight

    def _over_ranks(self, loss: float, metrics: Metrics) -> tuple[float, Metrics]:
        """The sums over the ranks. Names that a rank has not measured yet are told to it once."""
        if group.world() == 1:
            return loss, metrics
        unknown = bool(set(metrics) - set(self._names))
        if group.any_of(unknown):
            self._names = sorted(group.union([*self._names, *metrics]))
        sums = group.total([loss, *(metrics.get(name, 0.0) for name in self._names)])
        return sums[0], dict(zip(self._names, sums[1:], strict=True))

    def _refuse(self, loss: float, norm: float) -> NoReturn:
        raise PhaseFailed(
            f"the loss is {loss} at step {self.step}, the norm of its gradient {norm}",
            where=self.where,
            fix=self.fix,
        )


def share_of_rank(parts: Sequence[tuple[Part, float]]) -> list[tuple[Part, float]]:
    """The parts of a step that are this rank's.

    All have as many: where they do not come out even, the first is repeated at weight 0, for ranks meet in every forward
    and backward pass.
    """
    ranks = group.world()
    if ranks == 1:
        return list(parts)
    even = list(parts) + [(parts[0][0], 0.0)] * (-len(parts) % ranks)
    return even[group.rank() :: ranks]


def rows_in_part(rows: int, batch: int, engine: EngineSettings) -> int:
    """Rows of a part, so that a step of `batch` rows has parts enough for every rank to accumulate over.

    :param rows: at most.
    """
    return min(rows, -(-batch // (group.world() * engine.accumulate)))


def shares_of_rows(batch: Batch, pieces: int) -> list[Batch]:
    """The rows of a batch in so many pieces, or one a row where it has fewer."""
    if pieces == 1:
        return [batch]
    count = min(pieces, len(batch.input_ids))
    return [
        Batch(*tensors) for tensors in zip(*(tensor.tensor_split(count) for tensor in batch), strict=True)
    ]


def checkpoint_activations(learner: nn.Module) -> None:
    """Have the Hugging Face models in `learner` compute their layers' activations again in the backward pass.

    :raises ConfigError: one of them cannot.
    """
    models = [module for module in learner.modules() if isinstance(module, PreTrainedModel)]
    for model in models:
        if not model.supports_gradient_checkpointing:
            raise ConfigError(
                f"{type(model).__name__} cannot compute its activations again",
                where="engine.gradient_checkpointing",
                fix="set it to false, and lower rows or raise engine.accumulate for less memory",
            )
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _dtype(engine: EngineSettings, bfloat16: bool, device: torch.device) -> torch.dtype | None:
    """What forward passes are autocast to."""
    asked = engine.precision == "bfloat16" or (
        engine.precision == "auto" and bfloat16 and device.type == "cuda"
    )
    return torch.bfloat16 if asked else None


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
