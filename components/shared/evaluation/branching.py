"""The likeliest of several answers: each of the k likeliest first tokens is followed greedily, whole answers are compared.

A greedy first token can lead into an unlikely answer. Deterministic, and k = 1 is greedy decoding; for one-token answers
the outcome is greedy's at every k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.training.head import Head, cross_entropies, head_of, hidden_states

from .sampling import ROWS, sample_answers


@torch.no_grad()
def branch(
    model: PreTrainedModel, prompts: Sequence[list[int]], *, stops: Sequence[int], limit: int, width: int
) -> list[list[int]]:
    """For each prompt the likeliest of `width` answers, up to and with what ends it, or `limit` tokens (at least 2)."""
    no_answers: list[list[int]] = [[] for _ in prompts]
    ends, head = _states(model, prompts, no_answers)
    firsts = [head(states[-1]).topk(width).indices.tolist() for states in ends]
    begun = [[*prompt, token] for prompt, first in zip(prompts, firsts, strict=True) for token in first]
    unfinished = [path for path, start in enumerate(begun) if start[-1] not in stops]
    paths = [start[-1:] for start in begun]
    tails = sample_answers(
        model, [begun[path] for path in unfinished], stops=stops, limit=limit - 1, temperature=0.0
    )
    for path, tail in zip(unfinished, tails, strict=True):
        paths[path] += tail
    repeated = [prompt for prompt in prompts for _ in range(width)]
    answered, _ = _states(model, repeated, paths)
    likely = [likelihood(states, head, path) for states, path in zip(answered, paths, strict=True)]
    starts = range(0, len(paths), width)
    best = [max(range(start, start + width), key=lambda path: likely[path]) for start in starts]
    return [paths[path] for path in best]


def likelihood(states: Tensor, head: Head, path: Sequence[int]) -> float:
    """Log-probability of an answer in nats. states: (≥ n, d) from the position that predicts its first token on."""
    targets = torch.tensor(path, device=states.device)
    return -float(cross_entropies(states[: len(path)], head, targets).sum())


def _states(
    model: nn.Module, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> tuple[list[Tensor], Head]:
    """For each row prompt + answer: hidden states (len(answer) + 1, d), from the prompt's last token on; and the head."""
    device = next(model.parameters()).device
    continuations: list[Tensor] = []
    for at in range(0, len(prompts), ROWS):
        rows = [[*p, *a] for p, a in zip(prompts[at : at + ROWS], answers[at : at + ROWS], strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        last = hidden_states(model, ids, mask).last
        for index, row in enumerate(rows):
            continuations.append(last[index, len(prompts[at + index]) - 1 : len(row)])
    return continuations, head_of(model)
