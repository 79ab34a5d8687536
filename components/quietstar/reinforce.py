"""REINFORCE for thoughts, as Quiet-STaR does it (arXiv 2403.09629, section 4.4.3; ezelikman/quiet-star).

Several thoughts ("passes") start at one position. A thought is rewarded by how much it lowers the cross-entropy of the
true tokens that follow; the mean reward of the passes at its position is the baseline; thoughts worse than the mean are
left alone rather than pushed away (the reference's `trice_mode` with `remove_negative_rewards`).

What this estimates, exactly. With n passes and no clamp the expectation of `policy_loss`'s gradient is −(n−1)/n · ∇J,
J = E[reward]: the sample's own reward is part of its baseline, which shrinks the gradient and does not turn it. With
the clamp and two passes it is −½ · ∇E[u], where u(z) = E_z′[max(reward(z) − reward(z′), 0)] is held fixed: a monotone
utility of the reward, hence another gradient towards the same best thought. Both statements are tests, by enumeration.

Pure functions of tensors. B rows, P positions, N passes, L thought tokens, K talk tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reward(before: Tensor, mixed: Tensor) -> Tensor:
    """How much a thought lowers the cross-entropy of what follows.

    :param before: (B, P, N, K) cross-entropies in nats without the thought, 0 where no token follows.
    :param mixed: (B, P, N, K) the same with it.
    :returns: (B, P, N): nats that the thought saves over the K tokens; no gradient flows through it.
    """
    return (before - mixed).sum(-1).detach()


def advantage(rewards: Tensor, *, clamp: bool = True) -> Tensor:
    """Rewards against the mean over the passes at their position.

    :param rewards: (B, P, N).
    :param clamp: set negative ones to 0.
    :returns: (B, P, N).
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred.clamp(min=0) if clamp else centred


def policy_loss(log_likelihood: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """The loss whose gradient is the policy gradient.

    :param log_likelihood: (B, P, N, L) log-probability of each sampled thought token under the model.
    :param advantages: (B, P, N), constants.
    :param valid: (B, P) bool; positions that are padding carry no loss.
    :returns: scalar, the mean over valid positions and passes of −advantage · log p(thought).
    """
    loss = -(advantages.detach() * log_likelihood.sum(-1)).mean(-1)
    return torch.where(valid, loss, 0.0).sum() / valid.sum().clamp(min=1)
