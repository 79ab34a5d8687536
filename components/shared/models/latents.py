"""Latent weights for a ternary network that was stored, and is to be trained on.

Packing keeps trits and a scale, and not how near each weight was to its next trit. `to_latent` puts all weights of one
trit in one place, so that nothing flips for a while under training, and then very much at once. Spread over their cells
they flip one by one, as those of a network do that never was packed. Trained, it is stored as small as it was.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .half import round_to_half
from .loading import load, save
from .remote_code.ternary import BitLinear, scale_of, trits_of

MARGIN = 0.05
"""Distance of every latent from the borders of its trit's cell, ±½ scale, in scales."""


def spread(trits: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Latents of any shape, float32, whose quantisation is exactly (trits, scale): even over each cell.

    Zeros lie in ±(½ − m) scales, the others between ½ + m and as far beyond as makes the mean of all |w| the scale.

    :param trits: (…) −1, 0 and 1, not all 0.
    :param scale: 0-d float32.
    """
    n, k = trits.numel(), int(trits.count_nonzero())
    uniform = 1 - torch.rand(trits.shape, generator=generator, dtype=torch.float64)  # (0, 1]
    inside = (0.5 - MARGIN) * (2 * uniform - 1)
    remainder = n - inside[trits == 0].abs().sum() - k * (0.5 + MARGIN)
    outside = 0.5 + MARGIN + uniform * remainder / uniform[trits != 0].sum()
    latent = (scale * torch.where(trits == 0, inside, trits * outside)).float()
    # What float32 leaves of the mean goes to one weight that is no zero, and what that cannot hold to the smallest of all:
    # the scale comes out to the last bit.
    flat = latent.flatten()
    for index in (trits.flatten().nonzero()[0, 0], flat.abs().argmin()):
        rest = n * scale.double() - flat.abs().sum(dtype=torch.float64)
        flat[index] += torch.copysign(rest, rest * flat[index].double()).float()
        if torch.equal(scale_of(flat), scale):
            break
    return flat.reshape(trits.shape)


@torch.no_grad()
def spread_latents(model: nn.Module, generator: torch.Generator) -> None:
    """Spread the latents of every BitLinear of the model, in place. Its function stays the same, bit for bit."""
    for module in model.modules():
        if isinstance(module, BitLinear):
            weight = module.weight
            scale = scale_of(weight)
            trits = trits_of(weight, scale)
            if trits.any():
                weight.copy_(spread(trits.cpu(), scale.cpu(), generator))


def save_trained(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, card: str
) -> PreTrainedModel:
    """Store a model; where it is ternary all else that it holds is rounded to 16 bits first.

    Any other stays float32, as it was trained, also where its base was of 16 bits: rounded, most of what a step of a small
    rate changed would be undone.

    :returns: the model as it was stored.
    """
    ternary = any(isinstance(module, BitLinear) for module in model.modules())
    if ternary:
        round_to_half(model)
    save(model.cpu(), tokenizer, path, card=card, half=ternary)
    return load(path)[0]
