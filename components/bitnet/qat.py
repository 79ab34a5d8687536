"""Quantisation-aware training: the ternary network learns again, and what its full-precision self would say of the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.tasks.batches import Batch
from components.shared.training.ahead import Ahead
from components.shared.training.head import causal_lm, hidden_states, labelled, loss_of, over_chunks
from components.shared.training.loop import ALONE, Report, TrainingLoop, token_shares
from components.shared.training.packed import readable
from components.shared.training.settings import EngineSettings

from .conversion import set_strength

POINTS = 100
"""Points of the loss curve, about."""


def distillation_losses(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) at temperature T (Hinton et al., arXiv 1503.02531).

    :param student: (n, vocabulary) logits.
    :param teacher: (n, vocabulary) logits.
    :returns: (n,) nats.
    """
    student_log_p, teacher_log_p = (
        F.log_softmax(logits.float() / temperature, dim=-1) for logits in (student, teacher)
    )
    divergence = F.kl_div(student_log_p, teacher_log_p, reduction="none", log_target=True)
    return temperature**2 * divergence.sum(-1)


def strength_at(step: int, warmup: int) -> float:
    """λ of a step: how much of the quantisation a network feels while it is faded in over `warmup` steps."""
    return min(1.0, (step + 1) / (warmup + 1))


def answer_and_kl(
    student: PreTrainedModel, teacher: PreTrainedModel | None, batch: Batch, temperature: float
) -> tuple[Tensor, Tensor]:
    """The two terms of the loss.

    :param teacher: the same network in full precision, in evaluation mode; None: the second term is zero.
    :param batch: of items, or packed rows of text.
    :returns: the student's own loss (a Cognate's with its halting) and the KL to the teacher: scalars, nats a token, means
        over the tokens learnt.
    """
    # Rows are padded on the right, so that causality alone hides the padding: no mask is needed, but where a row is packed.
    batch, options = readable(student, causal_lm(student), batch)
    hidden = hidden_states(student, batch.input_ids, **options)
    if teacher is None:
        answer = loss_of(student, hidden, batch.labels)
        return answer, torch.zeros_like(answer)
    with torch.no_grad():
        theirs = hidden_states(teacher, batch.input_ids, **options)

    def both(logits: Tensor, of_teacher: Tensor, expected: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_logits = theirs.head(of_teacher)
        answer = F.cross_entropy(logits, expected, reduction="none")
        return torch.stack([answer, distillation_losses(logits, teacher_logits, temperature)], dim=1)

    rows, targets = labelled(hidden.last, batch.labels)
    losses = over_chunks(rows, hidden.head, both, labelled(theirs.last, batch.labels)[0], targets)
    answer, kl = losses.mean(0)
    return answer if hidden.ponder is None else loss_of(student, hidden, batch.labels), kl


def train(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    optimizer: Optimizer,
    draw: Callable[[int], list[Batch]],
    *,
    steps: int,
    warmup: int,
    strength_warmup: int,
    distillation: float,
    temperature: float,
    clip: float,
    engine: EngineSettings = ALONE,
    checkpoints: Checkpoints,
    report: Report,
) -> dict[str, list[float]]:
    """Train `student` in place through its quantisation.

    loss = answer + distillation · KL(teacher ‖ student), both on the tokens of answers, and all of a text's. Weight decay
    ends at half time, as in BitNet's recipe (arXiv 2402.17764 and its training tips): latent weights that stop shrinking
    settle. Training that was killed goes on from its checkpoint to the same weights.

    :param teacher: the full-precision input in evaluation mode, or None.
    :param draw: step → its batches, a function of the step alone.
    :param warmup: steps of linear warm-up of the rate.
    :param strength_warmup: steps over which the quantisation is faded in; 0: it is felt at once.
    :param distillation: weight of the KL.
    :param temperature: of both distributions in it.
    :param clip: largest norm of the gradient.
    :param engine: devices, shards, precision.
    :param report: called after each step with the loss of the answer and the KL, nats a token, and λ.
    :returns: the loss curve {"step": […], "loss": […], "kl": […]}.
    :raises PhaseFailed: the loss is not finite.
    """
    snapshot = Snapshot(
        {"model": student}, {"optimizer": optimizer}, state={"step": [], "loss": [], "kl": []}
    )
    loop = TrainingLoop(
        student,
        snapshot.optimizers,
        clip=clip,
        where="bitnet",
        fix="lower bitnet.lr",
        engine=engine,
        bfloat16=True,
        snapshot=snapshot,
        checkpoints=checkpoints,
        report=report,
    )
    snapshot.restore(checkpoints)
    loop.step = snapshot.step

    def loss_of(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        answer, kl = answer_and_kl(student, teacher, batch.to(student.device), temperature)
        return answer + distillation * kl, {"loss": answer.detach(), "kl": kl.detach()}

    ahead = Ahead(draw, engine.workers)
    student.train()
    for step in range(loop.step, steps):
        strength = strength_at(step, strength_warmup)
        set_strength(student, strength)
        if step >= steps // 2:
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.0
        batches = ahead(step)
        rate = warmup_cosine(step, steps, warmup)
        update = loop.update(batches, loss_of, rate=rate, weights=token_shares(batches))
        if loop.step % max(1, steps // POINTS) == 0:
            for name, value in {"step": loop.step, **update.metrics}.items():
                snapshot.state[name].append(round(value, 6))
        loop.end_step({**update.metrics, "quantisation_strength": strength})
    ahead.close()
    loop.finish()
    student.zero_grad()
    set_strength(student, 1.0)
    student.eval()
    return {name: snapshot.state[name] for name in ("step", "loss", "kl")}
