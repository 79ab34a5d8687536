"""Recovery: norms, biases and gates, which no code touches, learn to make up for what the codes lost.

The model that wears its decoded weights is distilled from itself as it was before (Hinton et al., arXiv 1503.02531), and
only its vectors move, as in norm tweaking (Li et al., arXiv 2309.02784). A norm's weight in front of a matrix is a scale
for each of its columns, so the scales learn too, at no byte more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.shared.evaluation.answers import next_logits
from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import IGNORED

from .allocation.evaluator import Said, Trial

CLIP = 1.0


@dataclass(frozen=True)
class Recovered:
    """KL from the model as it was, nats a token of held-out answers, before and after. kept: whether it fell."""

    before: float
    after: float

    @property
    def kept(self) -> bool:
        return self.after < self.before


def recover(
    trial: Trial,
    lessons: Sequence[Said],
    judged: Sequence[Said],
    *,
    steps: int,
    lr: float,
    progress: Progress,
) -> Recovered:
    """Train the vectors of the trial's model, which wears its decoded weights, by Adam along a cosine.

    They end in float16 values, as they are stored. Where the KL on `judged` does not fall, they are as they were.

    :param lessons: what the model said, before it was coded, to the batches of items that it learns from, in turn.
    :param judged: the same of items that decide.
    """
    model = trial.model
    vectors = [p for p in model.parameters() if p.ndim < 2 and p.is_floating_point()]
    own = [p.detach().clone() for p in vectors]
    before = trial.harm(judged)
    rule = torch.optim.Adam(vectors, lr)
    progress.start("recover", steps)
    for p in vectors:
        p.requires_grad_(True)
    model.eval()
    for step in range(steps):
        rule.param_groups[0]["lr"] = lr * warmup_cosine(step, steps)
        rule.zero_grad()
        loss = kl(model, lessons[step % len(lessons)])
        loss.backward()
        nn.utils.clip_grad_norm_(vectors, CLIP)
        rule.step()
        progress.step(kl=float(loss.detach()))
    progress.done()
    with torch.no_grad():
        for p in vectors:
            p.requires_grad_(False)
            half = p.half()
            if half.isfinite().all():
                p.copy_(half)
        found = Recovered(before, trial.harm(judged))
        if not found.kept:
            for p, was in zip(vectors, own, strict=True):
                p.copy_(was)
    return found


def kl(model: nn.Module, said: Said) -> Tensor:
    """Mean KL from what was said to what the model says now, nats a token of the answers; a scalar with a graph."""
    logits, targets = next_logits(model, said.rows)
    now = logits[targets != IGNORED].float().log_softmax(-1)
    return (said.plain.exp() * (said.plain - now)).sum() / max(len(now), 1)
