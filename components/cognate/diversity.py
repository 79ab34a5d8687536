"""How far a variant has moved from its trunk: in weights, in representations, in what it says.

Merging needs parents that differ in what they know and not in where they lie; these three numbers tell the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training.head import hidden_states, over_chunks

PIECE = 1 << 22
"""Weights that are brought to float64 at a time."""


def relative_distance(weights: Mapping[str, Tensor], trunk: Mapping[str, Tensor]) -> float:
    """‖θ − θ₀‖ / ‖θ₀‖ over the tensors that the trunk has: the length of the task vector (arXiv 2212.04089)."""
    moved = length = 0.0
    for name, start in trunk.items():
        flat, own = start.flatten(), weights[name].to(start.device).flatten()
        for first in range(0, len(flat), PIECE):  # in float64 an embedding would be twice a model
            there = flat[first : first + PIECE].double()
            moved += float((own[first : first + PIECE].double() - there).square_().sum())
            length += float(there.square_().sum())
    return (moved / length) ** 0.5


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment of two representations of the same inputs (Kornblith et al. 2019, eq. 3).

    :param x: (n, p) features of one network.
    :param y: (n, q) features of the other.
    :returns: ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖) of the centred features, in 0..1; 1 for x = y up to rotation and scale.
    """
    x, y = (features.double() - features.double().mean(0) for features in (x, y))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def disagreement(tokens: Tensor, others: Tensor) -> float:
    """Share of positions at which two networks predict different tokens.

    :param tokens: (n,) that one network predicts.
    :param others: (n,) of the other at the same positions.
    """
    return float((tokens != others).double().mean())


@torch.no_grad()
def probe(model: torch.nn.Module, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What a network represents and predicts at some positions.

    :param input_ids: (B, T) int64.
    :param mask: (B, T) bool, the n positions.
    :returns: (n, hidden) last hidden states and (n,) the likeliest tokens.
    """
    hidden = hidden_states(model, input_ids)
    rows = hidden.last[mask]
    return rows, over_chunks(rows, hidden.head, lambda logits: logits.argmax(-1))


def distances(
    model: torch.nn.Module, start: torch.nn.Module, batch: Batch, trunk: Mapping[str, Tensor]
) -> dict[str, float]:
    """How far a variant is from its trunk, by the names of the phase's metrics.

    :param start: the trunk as a model; trunk: its tensors, by its own names.
    :param batch: on the models' device; looked at where an answer is predicted.
    """
    places = torch.nn.functional.pad(batch.labels[:, 1:] != IGNORED, (0, 1))
    (hidden, tokens), (start_hidden, start_tokens) = (
        probe(m, batch.input_ids, places) for m in (model, start)
    )
    own = model.state_dict()
    return {
        "distance_from_trunk": relative_distance(
            {name: own[name if name in own else f"inner.{name}"] for name in trunk}, trunk
        ),
        "cka_with_trunk": linear_cka(hidden, start_hidden),
        "disagreement_with_trunk": disagreement(tokens, start_tokens),
    }
