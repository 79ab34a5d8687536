"""Quantisation-aware training: the ternary network learns the tasks again, and what its full-precision self would say."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches
from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import IGNORED, Batch, mixture

from .conversion import set_strength
from .settings import Settings


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) at temperature T, nats a token, mean over rows (Hinton et al., arXiv 1503.02531).

    student, teacher: (n, vocabulary) logits.
    """
    ours, theirs = (F.log_softmax(logits.float() / temperature, dim=-1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def strength_at(step: int, warmup: int) -> float:
    """λ of a step: how much of the quantisation a network feels while it is faded in over `warmup` steps."""
    return min(1.0, (step + 1) / (warmup + 1))


def lesson(
    student: PreTrainedModel, teacher: PreTrainedModel | None, batch: Batch, temperature: float
) -> tuple[Tensor, Tensor]:
    """The model's own loss (a Cognate's with its halting), and the KL to the teacher: means over the tokens learnt."""
    learnt = batch.labels[:, 1:] != IGNORED
    with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=batch.input_ids.is_cuda):
        # Rows are padded on the right, so that causality alone hides the padding: no mask is needed.
        out = student(input_ids=batch.input_ids, labels=batch.labels)
        if teacher is None:
            return out.loss, torch.zeros_like(out.loss)
        with torch.no_grad():
            wanted = teacher(input_ids=batch.input_ids).logits[:, :-1][learnt]
        return out.loss, distillation_loss(out.logits[:, :-1][learnt], wanted, temperature)


def train(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    *,
    seed: int,
    checkpoints: Checkpoints,
    report: Callable[[int, float, float], None],
) -> dict[str, list[float]]:
    """Train `student` in place through its quantisation; the loss curve {"step", "loss", "kl"}.

    loss = answer + distillation · KL(teacher ‖ student), both on the answer's tokens. Weight decay ends at half time, as
    in BitNet's recipe (arXiv 2402.17764 and its training tips): latent weights that stop shrinking settle. The items of a
    step are a function of (seed, step), so that training that was killed goes on from its checkpoint to the same weights.

    :param teacher: the full-precision input in evaluation mode, or None.
    :param report: called after each step with (step, answer loss, KL), nats a token.
    :raises PhaseFailed: the loss is not finite.
    """
    rule = optimizer(student, settings.optimizer, settings.lr, settings.weight_decay)
    loop = Snapshot({"model": student}, {"rule": rule}, state={"step": [], "loss": [], "kl": []})
    loop.restore(checkpoints)
    student.train()
    for step in range(loop.step, settings.steps):
        set_rate(rule, warmup_cosine(step, settings.steps, settings.warmup))
        set_strength(student, strength_at(step, settings.strength_warmup))
        if step >= settings.steps // 2:
            for group in rule.param_groups:
                group["weight_decay"] = 0.0
        items = mixture(
            settings.tasks, settings.levels, "train", seed, step, settings.batch, scratch=settings.scratch
        )
        rows = [batch.to(student.device) for _, batch in batches(items, tokenizer, settings.rows)]
        tokens = [int((batch.labels[:, 1:] != IGNORED).sum()) for batch in rows]
        entropy = kl = 0.0
        rule.zero_grad()
        for batch, count in zip(rows, tokens, strict=True):
            share = count / sum(tokens)
            answer, divergence = lesson(student, teacher, batch, settings.temperature)
            (share * (answer + settings.distillation * divergence)).backward()
            entropy += share * float(answer.detach())
            kl += share * float(divergence.detach())
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), settings.clip)
        if not torch.isfinite(norm):
            raise PhaseFailed(
                f"the loss is {entropy} at step {step}, its gradient {float(norm)}",
                where="bitnet",
                fix="lower bitnet.lr",
            )
        rule.step()
        if (step + 1) % max(1, settings.steps // 100) == 0:
            for name, value in (("step", step + 1), ("loss", entropy), ("kl", kl)):
                loop.state[name].append(round(value, 6))
        report(step + 1, entropy, kl)
        if checkpoints.due():
            loop.save(checkpoints, step + 1)
            checkpoints.stop_if_asked()
    set_strength(student, 1.0)
    student.eval()
    return {name: loop.state[name] for name in ("step", "loss", "kl")}
