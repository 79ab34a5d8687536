"""Tiny thinkers for every test of this folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from .thinkers import KINDS, START, make


@pytest.fixture(scope="session")
def models() -> dict[str, PreTrainedModel]:
    return {kind: make(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, models: dict[str, PreTrainedModel]) -> PreTrainedModel:
    """Each kind in turn. Tests leave it as it was."""
    return models[request.param]


@pytest.fixture
def text() -> torch.Tensor:
    """(2, 7) tokens."""
    return torch.randint(0, START, (2, 7), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def after() -> Callable[[nn.Module, list[int]], tuple[torch.Tensor, torch.Tensor]]:
    """Tokens → logits (V,) and hidden state (d,) at the last of them, by one plain forward pass without any cache."""

    def run(model: nn.Module, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        out = model(input_ids=torch.tensor([tokens]), output_hidden_states=True)
        return out.logits[0, -1], out.hidden_states[-1][0, -1]

    return run
