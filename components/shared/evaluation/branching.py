"""The likeliest of several answers: each of the k likeliest first tokens is followed greedily, whole answers are compared.

A greedy first token can lead into an unlikely answer. Deterministic, and k = 1 is greedy decoding; for one-token answers
the outcome is greedy's at every k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .sampling import ROWS, sample_answers


@torch.no_grad()
def branch(
    model: PreTrainedModel, prompts: Sequence[list[int]], *, stops: Sequence[int], limit: int, width: int
) -> list[list[int]]:
    """For each prompt the likeliest of `width` answers, up to and with what ends it, or `limit` tokens (at least 2)."""
    no_answers: list[list[int]] = [[] for _ in prompts]
    firsts = [logits[-1].topk(width).indices.tolist() for logits in _logits(model, prompts, no_answers)]
    begun = [[*prompt, token] for prompt, first in zip(prompts, firsts, strict=True) for token in first]
    unfinished = [path for path, start in enumerate(begun) if start[-1] not in stops]
    paths = [start[-1:] for start in begun]
    tails = sample_answers(
        model, [begun[path] for path in unfinished], stops=stops, limit=limit - 1, temperature=0.0
    )
    for path, tail in zip(unfinished, tails, strict=True):
        paths[path] += tail
    repeated = [prompt for prompt in prompts for _ in range(width)]
    likely = [
        likelihood(logits, path) for logits, path in zip(_logits(model, repeated, paths), paths, strict=True)
    ]
    starts = range(0, len(paths), width)
    best = [max(range(start, start + width), key=lambda path: likely[path]) for start in starts]
    return [paths[path] for path in best]


def likelihood(logits: Tensor, path: Sequence[int]) -> float:
    """Log-probability of an answer in nats. logits: (≥ n, V) from the position that predicts its first token on."""
    log_p = logits[: len(path)].log_softmax(-1)
    return float(log_p.gather(-1, torch.tensor(path)[:, None]).sum())


def _logits(model: nn.Module, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[Tensor]:
    """For each row prompt + answer: logits (len(answer) + 1, V), from the prompt's last token on, float32."""
    device = next(model.parameters()).device
    continuations: list[Tensor] = []
    for at in range(0, len(prompts), ROWS):
        rows = [[*p, *a] for p, a in zip(prompts[at : at + ROWS], answers[at : at + ROWS], strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        logits = model(input_ids=ids, attention_mask=mask).logits.float().cpu()
        for index, row in enumerate(rows):
            continuations.append(logits[index, len(prompts[at + index]) - 1 : len(row)])
    return continuations
