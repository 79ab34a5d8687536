"""One training step of one arm: plain text, questions, and a thought or a pause before each answer token.

The loss is the reference's: half the cross-entropy without and half that with the thought, over the talk tokens, plus
REINFORCE on the thoughts. Here the language-model loss of plain text joins it, so that the model goes on working without
thinking.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from components.shared.models.remote_code.thoughts import read, sample_thoughts
from components.shared.tasks.batches import Batch

from .reinforce import advantage, policy_loss, reward
from .settings import Settings
from .thoughts import IGNORED, choose_positions, rehearse, talk_targets
from .vocabulary import Words

Arm = Literal["pause", "thoughts"]


class Lesson(NamedTuple):
    """The loss of a step and what is worth a curve."""

    loss: Tensor  # scalar, with its graph
    metrics: dict[str, float]


def lesson(
    model: PreTrainedModel,
    text: Batch,
    questions: Batch,
    arm: Arm,
    words: Words,
    settings: Settings,
    generator: torch.Generator,
    *,
    reinforce: bool,
) -> Lesson:
    """The loss of one step.

    The pause arm holds <pause> where the other samples: the same number of tokens, between the same <think> and </think>.
    Two passes of pauses would be the same twice, so its caller gives it `passes` times the questions instead.

    :param text, questions: on the CPU; they are moved to the model's device.
    :param generator: draws positions and thoughts.
    :param reinforce: add the policy loss (thoughts only).
    """
    device = next(model.parameters()).device
    positions, valid = (
        t.to(device) for t in choose_positions(questions.labels, settings.positions, generator)
    )
    text, questions = text.to(device), questions.to(device)
    # Rows are padded on the right, so that causality alone hides the padding: no mask is needed.
    plain = model(input_ids=text.input_ids, labels=text.labels).loss

    context = read(model, questions.input_ids, questions.attention_mask)
    targets = talk_targets(questions.labels, positions, valid, settings.talk)
    passes = settings.passes if arm == "thoughts" else 1
    slots = positions.repeat_interleave(passes, dim=1)
    if arm == "thoughts":
        thoughts = sample_thoughts(
            model,
            context,
            slots,
            length=settings.length,
            start=words.start,
            end=words.end,
            temperature=settings.temperature,
            generator=generator,
        )
    else:
        thoughts = torch.full((*slots.shape, settings.length), words.pause, device=device)
    worth = rehearse(
        model,
        context,
        positions,
        thoughts,
        targets,
        start=words.start,
        end=words.end,
        temperature=settings.policy_temperature,
    )
    tokens = ((targets != IGNORED).sum() * passes).clamp(min=1)
    before, mixed = worth.before.sum() / tokens, worth.mixed.sum() / tokens
    loss = settings.text_weight * plain + (before + mixed) / 2
    metrics = {
        "text": plain.item(),
        "before": before.item(),
        "mixed": mixed.item(),
        "weight": worth.weight[..., 0][valid].mean().item(),
    }
    if arm == "thoughts":
        saved = reward(worth.before, worth.mixed)
        metrics["reward"] = saved[valid].mean().item()
        if reinforce:
            policy = policy_loss(worth.log_likelihood, advantage(saved, clamp=settings.clamp), valid)
            metrics["policy"] = policy.item()
            loss = loss + settings.policy_weight * policy
    return Lesson(loss, metrics)
