"""One stage of training: the loop that learns from its batches, with what each kind of stage adds to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.ranks import group
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training.head import causal_lm, hidden_states, labelled, loss_of, outcomes
from components.shared.training.loop import ALONE, Report, TrainingLoop, token_shares
from components.shared.training.packed import readable
from components.shared.training.settings import EngineSettings

from .edge_of_chaos import Edge
from .self_modelling import SelfModel, self_modelling_loss
from .step_batches import Part, StepBatches
from .weight_copies import Found, WeightAverage

WARMUP = 5
"""Steps of warm-up at the start of each stage: its optimiser is new."""
FLOOR = 0.1
"""The rate at the end of a stage, as a share of its peak; in stabilisation it falls to zero."""


class Learner(nn.ModuleList):
    """What a stage trains: the model, and in self-modelling its read-out."""

    def __init__(self, model: PreTrainedModel, read_out: nn.Module | None) -> None:
        super().__init__([model] if read_out is None else [model, read_out])
        self.get_output_embeddings = model.get_output_embeddings  # the optimiser asks which layer is the head


def train(
    model: PreTrainedModel,
    found: Found | None,
    draw: Callable[[int], StepBatches],
    edge: Edge,
    state: dict[str, Any],
    *,
    name: str,
    kind: str,
    steps: int,
    optimizer_of: Callable[[nn.Module], Optimizer],
    clip: float,
    engine: EngineSettings = ALONE,
    self_weight: float,
    average: float,
    checkpoints: Checkpoints,
    report: Report,
) -> None:
    """Train what is trainable of `model` through one stage, after which it is in evaluation mode.

    In stabilisation it is left with the average of its weights on the way.

    :param found: the model as the stage began, kept with each checkpoint so that the stage can be undone; None: it is
        in the model itself, beneath a change that can be taken off.
    :param draw: step → its batches, a function of the step and of the edge's rates.
    :param edge: is told how fresh items went.
    :param state: the phase's plain state. Kept here: "within" (steps done), "loss" and "success" of each step, and at the
        edge of chaos "unsteered", the success to be expected without choosing the difficulty.
    :param name: of the stage, for errors.
    :param kind: of the stage, as in the settings.
    :param optimizer_of: what is trained → its optimiser.
    :param clip: largest norm of the gradient.
    :param engine: devices, shards, precision.
    :param self_weight: weight of the prediction of one's own activations, in self-modelling.
    :param average: decay of the weight average (EMA), in stabilisation.
    :param report: called after each step with the cross-entropy in nats a token and the share of right answers.
    :raises PhaseFailed: the loss is not finite.
    """
    read_out = (
        SelfModel(model.config.get_text_config().hidden_size).to(model.device)
        if kind == "self_modelling"
        else None
    )
    averaged = WeightAverage(model, average) if kind == "stabilisation" else None
    learner = Learner(model, read_out)
    optimizer = optimizer_of(learner)
    modules = {"model": model, "before": found, "read_out": read_out, "average": averaged}
    snapshot = Snapshot(
        {n: m for n, m in modules.items() if m is not None}, {"optimizer": optimizer}, state=state
    )
    loop = TrainingLoop(
        learner,
        snapshot.optimizers,
        clip=clip,
        where=name,
        fix="lower training.lr",
        engine=engine,
        bfloat16=True,
        snapshot=snapshot,
        checkpoints=checkpoints,
        report=report,
        offset=state["done"],
    )
    if state["within"]:
        snapshot.restore(checkpoints)
    loop.step = state["within"]
    edge.rates = state["rates"]  # those of the checkpoint, and what is observed goes into the next one

    def loss_of(part: Part) -> tuple[Tensor, dict[str, float]]:
        indices, batch = part
        loss, outcomes = stage_loss(learner, batch.to(model.device), self_weight)
        right[indices] = outcomes.right[: len(indices)]
        return loss, {"loss": outcomes.entropy}

    floor = 0.0 if kind == "stabilisation" else FLOOR
    model.train()
    for step in range(loop.step, steps):
        if kind == "edge_of_chaos":
            state["unsteered"].append(round(edge.unsteered(), 4))
        cells, parts = draw(step)
        right = np.zeros(len(cells), dtype=bool)
        rate = warmup_cosine(step, steps, min(WARMUP, steps), floor)
        weights = token_shares([batch for _, batch in parts])
        update = loop.update(parts, loss_of, rate=rate, weights=weights)
        if averaged is not None:
            with loop.whole():
                averaged.update(model)
        right = np.array(group.most(right.tolist()), dtype=bool)  # each row was in one rank's share
        edge.observe(cells, right.tolist())
        state["within"] = loop.step
        state["loss"].append(round(update.metrics["loss"], 5))
        state["success"].append(round(float(right.mean()), 4))
        loop.end_step({"loss": state["loss"][-1], "success": state["success"][-1]})
    loop.finish()
    if averaged is not None:
        averaged.put_into(model)
    model.eval()


class RowOutcomes(NamedTuple):
    """How the learnt tokens of some rows went: mean cross-entropy in nats, and (B,) bool whether all were most likely."""

    entropy: float
    right: np.ndarray


def stage_loss(learner: Learner, batch: Batch, self_weight: float) -> tuple[Tensor, RowOutcomes]:
    """The network's own loss (a Cognate's with its halting), in self-modelling with its second term.

    :param batch: on the model's device.
    :returns: scalar, nats a token, with its graph; and how the learnt tokens went.
    """
    model, read_out = learner[0], learner[1] if len(learner) == 2 else None
    # Rows are padded on the right, so that causality alone hides the padding: no mask is needed, but where a row is packed.
    batch, options = readable(model, causal_lm(model), batch)
    hidden = hidden_states(model, batch.input_ids, every=read_out is not None, **options)
    rows, targets = labelled(hidden.last, batch.labels)
    nll, right = outcomes(rows, hidden.head, targets)
    loss = nll.mean() if hidden.ponder is None else loss_of(model, hidden, batch.labels)
    if read_out is not None and hidden.states is not None:
        real = batch.attention_mask.bool()
        loss = loss + self_weight * self_modelling_loss(read_out, hidden.states, real)
    wrong = (batch.labels[:, 1:] != IGNORED).nonzero()[:, 0][~right]
    all_right = np.bincount(wrong.cpu().numpy(), minlength=len(batch.labels)) == 0
    return loss, RowOutcomes(float(nll.detach().mean()), all_right)
