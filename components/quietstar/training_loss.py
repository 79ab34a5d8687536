"""The training loss of one arm: questions, with a thought or a pause before each answer token, and plain text.

The first is the reference's: half the cross-entropy without and half that with the thought, over the talk tokens, plus
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
from components.shared.training.head import next_token_loss

from .reinforce import advantage, policy_loss, reward
from .thoughts import choose_positions, score_thoughts, talk_targets
from .vocabulary import ThoughtTokens

ArmName = Literal["pause", "thoughts"]


class StepLoss(NamedTuple):
    """The loss of a step, a scalar with its graph, and what is worth a curve."""

    loss: Tensor
    metrics: dict[str, float]


def text_loss(model: PreTrainedModel, text: Batch, weight: float) -> StepLoss:
    """The language-model loss of plain text.

    :param text: on the CPU; it is moved to the model's device.
    :returns: the loss in nats, times `weight`, with its graph; metric `text`.
    """
    text = text.to(next(model.parameters()).device)
    plain = next_token_loss(model, text)
    return StepLoss(weight * plain, {"text": plain.item()})


def thought_loss(
    model: PreTrainedModel,
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
    policy_weight: float,
    clamp: bool,
) -> StepLoss:
    """The loss of the questions of a step.

    The pause arm holds <pause> where the other samples: the same number of tokens, between the same <think> and </think>.
    Two passes of pauses would be the same twice, so its caller gives it `passes` times the questions instead.

    :param questions: what is thought about, on the CPU; it is moved to the model's device.
    :param generator: draws positions and thoughts.
    :param reinforce: add the policy loss (thoughts only).
    :param positions: at which a question is thought about, at most.
    :param passes: thoughts at each position.
    :param length: tokens of a thought.
    :param talk: true tokens after a thought that reward it.
    :param temperature: at which thoughts are sampled.
    :param policy_temperature: at which their likelihood is taken.
    :param policy_weight: of the policy loss.
    :param clamp: leave thoughts below the mean alone.
    :returns: the loss in nats, with its graph; metrics `before`, `mixed`, `weight`, and for thoughts `reward` and `policy`.
    """
    device = next(model.parameters()).device
    columns, valid = (t.to(device) for t in choose_positions(questions.labels, positions, generator))
    questions = questions.to(device)
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
    loss = (before + mixed) / 2
    metrics = {
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
