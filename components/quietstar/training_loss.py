"""The training loss of one arm: plain text, questions, and a thought or a pause before each answer token.

The loss is the reference's: half the cross-entropy without and half that with the thought, over the talk tokens, plus
REINFORCE on the thoughts. Here the language-model loss of plain text joins it, so that the model goes on working without
thinking.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from components.shared.models.remote_code.thoughts import encode_text, sample_thoughts
from components.shared.tasks.batches import IGNORED, Batch

from .reinforce import advantage, policy_loss, reward
from .thoughts import choose_positions, score_thoughts, talk_targets
from .vocabulary import ThoughtTokens

ArmName = Literal["pause", "thoughts"]


class StepLoss(NamedTuple):
    """The loss of a step, a scalar with its graph, and what is worth a curve."""

    loss: Tensor
    metrics: dict[str, float]


def training_loss(
    model: PreTrainedModel,
    text: Batch,
    questions: Batch,
    arm: ArmName,
    tokens: ThoughtTokens,
    generator: torch.Generator,
    *,
    reinforce: bool,
    positions: int,
    passes: int,
    length: int,
    talk: int,
    temperature: float,
    policy_temperature: float,
    text_weight: float,
    policy_weight: float,
    clamp: bool,
) -> StepLoss:
    """The loss of one step.

    The pause arm holds <pause> where the other samples: the same number of tokens, between the same <think> and </think>.
    Two passes of pauses would be the same twice, so its caller gives it `passes` times the questions instead.

    :param text: plain text, on the CPU; it is moved to the model's device.
    :param questions: what is thought about, on the CPU too.
    :param generator: draws positions and thoughts.
    :param reinforce: add the policy loss (thoughts only).
    :param positions: at which a question is thought about, at most.
    :param passes: thoughts at each position.
    :param length: tokens of a thought.
    :param talk: true tokens after a thought that reward it.
    :param temperature: at which thoughts are sampled.
    :param policy_temperature: at which their likelihood is taken.
    :param text_weight: of the language-model loss on plain text.
    :param policy_weight: of the policy loss.
    :param clamp: leave thoughts below the mean alone.
    :returns: the loss in nats, with its graph; metrics `text`, `before`, `mixed`, `weight`,
        and for thoughts `reward` and `policy`.
    """
    device = next(model.parameters()).device
    columns, valid = (t.to(device) for t in choose_positions(questions.labels, positions, generator))
    text, questions = text.to(device), questions.to(device)
    # Rows are padded on the right, so that causality alone hides the padding: no mask is needed.
    plain = model(input_ids=text.input_ids, labels=text.labels).loss

    context = encode_text(model, questions.input_ids, questions.attention_mask)
    targets = talk_targets(questions.labels, columns, valid, talk)
    passes = passes if arm == "thoughts" else 1
    slots = columns.repeat_interleave(passes, dim=1)
    if arm == "thoughts":
        thoughts = sample_thoughts(
            model,
            context,
            slots,
            length=length,
            start=tokens.start,
            end=tokens.end,
            temperature=temperature,
            generator=generator,
        )
    else:
        thoughts = torch.full((*slots.shape, length), tokens.pause, device=device)
    scores = score_thoughts(
        model,
        context,
        columns,
        thoughts,
        targets,
        start=tokens.start,
        end=tokens.end,
        temperature=policy_temperature,
    )
    count = ((targets != IGNORED).sum() * passes).clamp(min=1)
    before, mixed = scores.before.sum() / count, scores.mixed.sum() / count
    loss = text_weight * plain + (before + mixed) / 2
    metrics = {
        "text": plain.item(),
        "before": before.item(),
        "mixed": mixed.item(),
        "weight": scores.weight[..., 0][valid].mean().item(),
    }
    if arm == "thoughts":
        saved = reward(scores.before, scores.mixed)
        metrics["reward"] = saved[valid].mean().item()
        if reinforce:
            policy = policy_loss(scores.log_likelihood, advantage(saved, clamp=clamp), valid)
            metrics["policy"] = policy.item()
            loss = loss + policy_weight * policy
    return StepLoss(loss, metrics)
