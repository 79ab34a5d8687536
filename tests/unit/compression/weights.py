"""Weights of models under test."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def weight_of(module: nn.Module) -> np.ndarray:
    """The weight of a codable module, (out, in) float32."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach().float().cpu().numpy()
