"""Thoughts in training: where to think, and what a thought is worth.

Sampling goes token by token and needs no gradient (remote_code/thoughts.py). Scoring is teacher-forced, because a sampled
thought is known: <think> z1 … zL </think> x1 … x(K−1) of every slot is one differentiable forward pass over the cache of
the text, under the same diagonal mask. Its gradients are those of the reference, which keeps the graph of every step.

B rows, T columns, P positions, N passes (thoughts at one position), S = P·N slots with slot s at position s // N,
L thought tokens, K talk tokens (the reference's n_ahead_talk).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from components.shared.models.remote_code.thoughts import (
    Text,
    continue_thoughts,
    enclose,
    fork,
    mix,
    silence,
    without_thought,
)
from components.shared.tasks.batches import IGNORED
from components.shared.training.head import head_of, over_chunks


class ThoughtScores(NamedTuple):
    """What the thoughts of a batch are worth. Cross-entropies are in nats, and 0 where no token follows.

    before          (B, P, N, K) cross-entropy of the talk tokens without the thought
    mixed           (B, P, N, K) the same with it, mixed by the talk head
    log_likelihood  (B, P, N, L) log-probability of each choice: the thought's tokens and its own </think>
    weight          (B, P, N, K) the talk head's
    """

    before: Tensor
    mixed: Tensor
    log_likelihood: Tensor
    weight: Tensor


def choose_positions(labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw up to `count` columns a row whose next token is labelled.

    :param labels: (B, T) int64 on the CPU, aligned with the text; IGNORED where nothing is learnt.
    :param count: positions a row, P.
    :param generator: on the CPU.
    :returns: positions (B, P) in ascending order, and (B, P) bool, False where a row had fewer.
    """
    predicts = F.pad(labels[:, 1:] != IGNORED, (0, 1))
    random_key = torch.rand(labels.shape, generator=generator) + predicts
    positions = random_key.topk(min(count, labels.shape[1]), dim=1).indices.sort(dim=1).values
    return positions, predicts.gather(1, positions)


def talk_targets(labels: Tensor, positions: Tensor, valid: Tensor, talk: int) -> Tensor:
    """The labelled tokens that follow each position.

    :param labels: (B, T) int64.
    :param positions: (B, P).
    :param valid: (B, P) bool, False where a row had fewer positions.
    :param talk: tokens that follow, K.
    :returns: (B, P, K) int64, IGNORED where no token follows.
    """
    ahead = positions[..., None] + torch.arange(1, talk + 1, device=labels.device)
    following = F.pad(labels, (0, talk), value=IGNORED).gather(1, ahead.flatten(1)).view(ahead.shape)
    return following.masked_fill(~valid[..., None], IGNORED)


def score_thoughts(
    model: PreTrainedModel,
    text: Text,
    positions: Tensor,
    thoughts: Tensor,
    targets: Tensor,
    *,
    start: int,
    end: int,
    temperature: float = 1.0,
) -> ThoughtScores:
    """Score the thoughts at each position by the talk tokens after them.

    :param text: the forward pass over the text, with its graph where gradients are wanted.
    :param positions: (B, P).
    :param thoughts: (B, P·N, L) int64.
    :param targets: (B, P, K) int64, IGNORED where no token follows (`talk_targets`).
    :param start: id of <think>.
    :param end: id of </think>.
    :param temperature: of the policy under which the thoughts' likelihood is taken.
    """
    _, slots, length = thoughts.shape
    talk, passes = targets.shape[-1], slots // positions.shape[1]
    shape = (*positions.shape, passes)
    positions, targets = positions.repeat_interleave(passes, 1), targets.repeat_interleave(passes, 1)

    context_tokens = targets[..., :-1].clamp(min=0).transpose(1, 2)
    enclosed, padding_mask = enclose(thoughts, start, end)
    tokens, padding_mask = (
        torch.cat([enclosed, context_tokens], dim=1),
        F.pad(padding_mask, (0, 0, 0, talk - 1)),
    )
    hidden = continue_thoughts(model, text, fork(text.cache), positions, tokens, padding_mask)
    head = head_of(model)

    # The token at step k is predicted at step k − 1. Padding was no choice: the </think> before it was.
    def choice(logits: Tensor, chosen: Tensor) -> Tensor:
        policy = F.log_softmax(silence(logits, (start,)) / temperature, dim=-1)
        return policy.gather(-1, chosen[:, None])[:, 0]

    chosen = thoughts.transpose(1, 2)
    log_likelihood = over_chunks(hidden[:, :length].flatten(0, 2), head, choice, chosen.flatten())
    log_likelihood = log_likelihood.view(chosen.shape).masked_fill(padding_mask[:, :length], 0.0)

    ahead = torch.arange(talk, device=positions.device)[:, None]
    columns = (positions[:, None] + ahead).clamp(max=text.position_ids.shape[1] - 1)
    plain, after = without_thought(text, columns), hidden[:, length + 1 :]
    weight = model.get_submodule("talk_head")(plain, after)

    def nats(logits: Tensor, without: Tensor, share: Tensor, following: Tensor) -> Tensor:
        before = head(without)
        return torch.stack(
            [
                F.cross_entropy(predicted, following, ignore_index=IGNORED, reduction="none")
                for predicted in (before, mix(before, logits, share))
            ],
            dim=1,
        )

    following = targets.transpose(1, 2)
    losses = over_chunks(
        after.flatten(0, 2), head, nats, plain.flatten(0, 2), weight.flatten(0, 2), following.flatten()
    )
    before, mixed = losses.view(*following.shape, 2).unbind(-1)

    def by_position(values: Tensor) -> Tensor:
        return values.transpose(1, 2).reshape(*shape, -1)

    return ThoughtScores(
        by_position(before), by_position(mixed), by_position(log_likelihood), by_position(weight.squeeze(-1))
    )
