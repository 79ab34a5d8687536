"""How expert vectors are stored: z = 1 + scale·q, q int8, one scale an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Expert = Mapping[str, Tensor]
"""Module path → z."""


def pack_experts(experts: Sequence[Expert]) -> dict[str, Tensor]:
    """Quantise experts, z = 1 + scale·q.

    :returns: module path → q, int8 (experts, r), and `scale`, float32 (experts,).
    """
    lengths = {path: len(z) for expert in experts for path, z in expert.items()}
    scale = torch.tensor(
        [max(float((z.float() - 1).abs().max()) for z in expert.values()) / 127 for expert in experts]
    ).clamp_min(1e-8)
    return {
        path: torch.stack(
            [
                ((expert[path].float().cpu() - 1) / step).round().to(torch.int8)
                if path in expert
                else torch.zeros(length, dtype=torch.int8)
                for expert, step in zip(experts, scale, strict=True)
            ]
        )
        for path, length in sorted(lengths.items())
    } | ({"scale": scale} if experts else {})


def unpack_experts(tensors: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Name → module path → z, from what `pack_experts` gave."""
    return {
        name: {path: 1 + tensors["scale"][k] * q[k] for path, q in tensors.items() if path != "scale"}
        for k, name in enumerate(names)
    }
