"""One bake: the model learns to say without the instruction what it says with it, and nothing else changes.

    loss = KL(P_θ(·|y<t, u, x0) ‖ P_θu(·|y<t, x0))  +  anchor · KL(P_θ(·|z) ‖ P_θu(·|z))

The first term is prompt baking (arXiv 2409.13697). The second anchors the model to itself, as it was before the bake, on
unrelated inputs and on prompted ones: without it bakes in sequence undo one another and what the model knew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.training.loop import ALONE, Report, TrainingLoop, rows_in_part
from components.shared.training.settings import EngineSettings

from .distillation_set import DistillationSet, divergence

CLIP = 1.0
WARMUP = 5
ROWS = 16
"""Rows of like length that pass the network together."""


def bake(
    model: PreTrainedModel,
    parameters: list[nn.Parameter],
    prompted: DistillationSet,
    anchors: DistillationSet,
    *,
    steps: int,
    batch: int,
    lr: float,
    anchor: float,
    seed: int,
    engine: EngineSettings = ALONE,
    checkpoints: Checkpoints,
    state: dict[str, Any],
    report: Report,
) -> None:
    """Train `parameters`, the LoRA parameters of `model`, in place.

    :param prompted: what the prompted teacher says, without the prompt.
    :param anchors: what the model says to what must not change.
    :param batch: trajectories a step, and as many anchors.
    :param anchor: weight of the second term; 0: there is none.
    :param seed: of which rows a step takes.
    :param engine: devices, shards, precision.
    :param state: plain JSON of the phase, kept with each checkpoint; "within" (steps done) and "curve" are kept here.
    :param report: called after each step with the KL to the prompted teacher and the anchor's KL, nats a token.
    :raises PhaseFailed: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    snapshot = Snapshot({"model": model}, {"optimizer": optimizer}, state=state)
    loop = TrainingLoop(
        model,
        snapshot.optimizers,
        clip=CLIP,
        where="baking",
        fix="lower baking.lr",
        engine=engine,
        snapshot=snapshot,
        checkpoints=checkpoints,
        report=report,
        offset=state["done"],
    )
    if state["within"]:
        snapshot.restore(checkpoints)
    loop.step = state["within"]

    def loss_of(part: tuple[str, float, float, DistillationSet]) -> tuple[Tensor, dict[str, Tensor]]:
        name, weight, share, rows = part
        apart = share * divergence(model, rows)
        return weight * apart, {name: apart.detach()}

    terms = [("kl", 1.0, prompted), ("anchor_kl", anchor, anchors)]
    rows_of_part = rows_in_part(ROWS, batch, engine)
    model.train()
    for step in range(loop.step, steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        parts = [
            (name, weight, share, rows)
            for name, weight, term in terms
            if weight
            for share, rows in term.parts(
                torch.randint(len(term.rows.input_ids), (batch,), generator=generator), rows_of_part
            )
        ]
        update = loop.update(parts, loss_of, rate=warmup_cosine(step, steps, warmup=min(WARMUP, steps)))
        state["within"] = loop.step
        state["curve"].append([round(value, 6) for value in update.metrics.values()])
        loop.end_step(update.metrics)
    loop.finish()
    model.eval()
