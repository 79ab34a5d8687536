"""Refinement: one weight-shared block applied again and again, with PonderNet halting (Banino et al., arXiv 2107.05407).

h_0 is the last block's output, h_n = block(h_{n−1}). After step n a token halts with probability λ_n =
σ(w·h_n + b), so p_n = λ_n Π_{i<n}(1 − λ_i), the last step taking what is left. Training minimises Σ_n p_n L_n
+ β·KL(p ‖ geometric); at inference a token takes its median step, the first where Σ p ≥ ½. The output is h_0
+ gate · (h_n − h_0). Each step has its own slot in the key-value cache, so every step is computed while a
cache grows.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Ponder(NamedTuple):
    """All steps of a refinement: states (N, B, T, hidden), log p (N, B, T), the chosen step (B, T), from 0."""

    states: torch.Tensor
    log_p: torch.Tensor
    step: torch.Tensor

    def choose(self, t):
        """Each token's chosen step of t (N, B, T, …) → (B, T, …)."""
        index = self.step.reshape(1, *self.step.shape, *[1] * (t.ndim - 3))
        return t.gather(0, index.expand(1, *t.shape[1:]))[0]


class Refinement(nn.Module):
    """Holds the shared block, the halting head and the gate."""

    def __init__(self, config, block):
        super().__init__()
        self.slot, self.steps, self.prior = (
            config.num_hidden_layers,
            config.refinement_steps,
            config.refinement_prior,
        )
        self.block = block
        self.halt = nn.Linear(config.hidden_size, 1)
        self.gate = nn.Parameter(torch.zeros(config.hidden_size))
        self.start_closed()

    def start_closed(self):
        """Before training every step halts with the prior's probability."""
        with torch.no_grad():
            self.halt.weight.zero_()
            self.halt.bias.fill_(self.prior).logit_()

    def forward(self, x, angles, mask, causal, cache):
        """x: (B, T, hidden) → Ponder, or None where a closed gate makes it idle."""
        if cache is None and not torch.is_grad_enabled() and not self.gate.any():
            return None
        h, states, chosen = x, [], []
        log_remaining = x.new_zeros(x.shape[:2], dtype=torch.float32)  # log Π(1 − λ)
        for n in range(self.steps):
            h = self.block(h, angles, mask, causal, cache, self.slot + n)
            states.append(x + self.gate * (h - x))
            score = self.halt(h)[..., 0].float()
            chosen.append(log_remaining if n == self.steps - 1 else log_remaining + F.logsigmoid(score))
            log_remaining = log_remaining + F.logsigmoid(-score)
        log_p = torch.stack(chosen)
        step = (log_p.detach().exp().cumsum(0) < 0.5).sum(0).clamp_max(self.steps - 1)
        return Ponder(torch.stack(states), log_p, step)


def ponder_loss(log_p, losses, prior, beta):
    """PonderNet's loss, a mean over tokens.

    log_p, losses: (N, tokens). prior: λ of the geometric distribution, cut off after N steps and normalised. beta:
    the weight of KL(p ‖ prior).
    """
    steps = torch.arange(log_p.shape[0], device=log_p.device, dtype=torch.float32)
    log_prior = F.log_softmax(steps * math.log1p(-prior), dim=0)
    per_token = (log_p.exp() * (losses + beta * (log_p - log_prior[:, None]))).sum(0)
    return per_token.sum() / max(per_token.numel(), 1)
