"""Recovery: norms, biases and gates, which no code touches, learn to make up for what the codes lost.

The model with its decoded weights is distilled from itself as it was before (Hinton et al., arXiv 1503.02531), and
only its vectors move, as in norm tweaking (Li et al., arXiv 2309.02784). A norm's weight in front of a matrix is a scale
for each of its columns, so the scales learn too, at no byte more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.shared.evaluation.answers import answer_states
from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.errors import PhaseFailed
from components.shared.runtime.tracking.progress import Progress
from components.shared.training.loop import ALONE, TrainingLoop, report_to, token_shares
from components.shared.training.settings import EngineSettings

from .allocation.evaluator import Evaluator, ReferenceOutputs

CLIP = 1.0
PARTS = 2
"""Batches of which a step takes the gradient; a small model's pass it side by side."""


@dataclass(frozen=True)
class RecoveryOutcome:
    """KL from the model as it was, nats a token of held-out answers, before and after. kept: whether it fell."""

    before: float
    after: float

    @property
    def kept(self) -> bool:
        """Whether the KL fell, so that what was learnt stays."""
        return self.after < self.before


def recover(
    evaluator: Evaluator,
    training_outputs: Sequence[ReferenceOutputs],
    held_out_outputs: Sequence[ReferenceOutputs],
    *,
    steps: int,
    lr: float,
    engine: EngineSettings = ALONE,
    progress: Progress,
) -> RecoveryOutcome:
    """Train the vectors of the evaluator's model, which has its decoded weights, by Adam along a cosine.

    They end in float16 values, as they are stored. Where the KL to `held_out_outputs` does not fall, they are as they were.

    :param training_outputs: what the model predicted, before it was coded, for the batches that it learns from,
        PARTS a step, in turn.
    :param held_out_outputs: the same for the items that decide.
    :param lr: peak learning rate.
    :param engine: devices, shards, precision.
    """
    model = evaluator.model
    vectors = [p for p in model.parameters() if p.ndim < 2 and p.is_floating_point()]
    original = [p.detach().clone() for p in vectors]
    before = evaluator.kl_increase(held_out_outputs)
    optimizer = torch.optim.Adam(vectors, lr)
    progress.start("recover", steps)
    for p in vectors:
        p.requires_grad_(True)
    model.eval()
    loop = TrainingLoop(
        model,
        {"vectors": optimizer},
        clip=CLIP,
        where="compression.recovery",
        fix="lower compression.recovery.lr",
        engine=engine,
        report=report_to(progress),
    )

    def loss_of(reference: ReferenceOutputs) -> tuple[Tensor, dict[str, float]]:
        return kl_divergence(model, reference), {}

    pairs = [training_outputs[start : start + PARTS] for start in range(0, len(training_outputs), PARTS)]
    try:
        for step in range(steps):
            parts = pairs[step % len(pairs)]
            shares = token_shares([part.batch for part in parts])
            update = loop.update(parts, loss_of, rate=warmup_cosine(step, steps), weights=shares)
            loop.end_step({"kl": update.loss})
    except (
        PhaseFailed
    ) as error:  # the coded model is there: what was learnt is kept below only if it measures better
        progress.note(f"recovery stops early: {error}")
    loop.finish()
    vectors = [p for p in model.parameters() if p.ndim < 2 and p.is_floating_point()]
    progress.done()
    with torch.no_grad():
        for p in vectors:
            p.requires_grad_(False)
            half = p.half()
            if half.isfinite().all():
                p.copy_(half)
        outcome = RecoveryOutcome(before, evaluator.kl_increase(held_out_outputs))
        if not outcome.kept:
            for p, value in zip(vectors, original, strict=True):
                p.copy_(value)
    return outcome


def kl_divergence(model: nn.Module, reference: ReferenceOutputs) -> Tensor:
    """Mean KL from the reference to what the model predicts now, nats a token of the answers; a scalar with a graph."""
    states = answer_states(model, reference.batch)
    log_p = states.head(states.hidden).log_softmax(-1)
    return (reference.plain.exp() * (reference.plain - log_p)).sum() / max(len(log_p), 1)
