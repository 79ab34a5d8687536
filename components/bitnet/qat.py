"""Quantisation-aware training: the ternary network learns the tasks again, and what its full-precision self would say."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_cosine
from components.shared.runtime.checkpoint import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import IGNORED, encode, mixture

from .conversion import set_strength
from .settings import Settings


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) at temperature T, nats a token, mean over rows (Hinton et al., arXiv 1503.02531).

    student, teacher: (n, vocabulary) logits.
    """
    ours, theirs = (F.log_softmax(logits.float() / temperature, dim=-1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


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

    loss = CE(answer) + distillation · KL(teacher ‖ student) on the answer's tokens. Weight decay ends at half time
    (arXiv 2402.17764, and the two-stage schedule of its training tips): latent weights that stop shrinking settle.

    :param teacher: the full-precision input in evaluation mode, or None.
    :param report: called after each step with (step, cross-entropy, KL).
    :raises PhaseFailed: the loss is not finite.
    """
    rule = optimizer(student, settings.optimizer, settings.lr, settings.weight_decay)
    loop = Snapshot({"model": student}, {"rule": rule}, state={"step": [], "loss": [], "kl": []})
    loop.restore(checkpoints)
    student.train()
    device = student.device
    for step in range(loop.step, settings.steps):
        set_rate(rule, warmup_cosine(step, settings.steps, settings.warmup))
        set_strength(student, min(1.0, (step + 1) / (settings.strength_warmup + 1)))
        if step >= settings.steps // 2:
            for group in rule.param_groups:
                group["weight_decay"] = 0.0
        batch = encode(
            mixture(
                settings.tasks, settings.levels, "train", seed, step, settings.batch, scratch=settings.scratch
            ),
            tokenizer,
        ).to(device)
        learnt = batch.labels[:, 1:] != IGNORED
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = student(input_ids=batch.input_ids).logits[:, :-1][learnt]
            entropy = F.cross_entropy(logits.float(), batch.labels[:, 1:][learnt])
            kl = torch.zeros((), device=device)
            if teacher is not None:
                with torch.no_grad():
                    wanted = teacher(input_ids=batch.input_ids).logits[:, :-1][learnt]
                kl = distillation_loss(logits, wanted, settings.temperature)
        loss = entropy + settings.distillation * kl
        if not torch.isfinite(loss):
            raise PhaseFailed(
                f"the loss is {float(loss)} at step {step}", where="bitnet", fix="lower bitnet.lr"
            )
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), settings.clip)
        rule.step()
        if (step + 1) % max(1, settings.steps // 100) == 0:
            for name, value in (("step", step + 1), ("loss", float(entropy)), ("kl", float(kl))):
                loop.state[name].append(round(value, 6))
        report(step + 1, float(entropy), float(kl))
        if checkpoints.due():
            loop.save(checkpoints, step + 1)
            checkpoints.stop_if_asked()
    set_strength(student, 1.0)
    student.eval()
    return {name: loop.state[name] for name in ("step", "loss", "kl")}
