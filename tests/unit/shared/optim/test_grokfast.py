"""Grokfast against numbers worked out by hand from the paper's algorithms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.shared.optim.grokfast import SLOW, Grokfast, attach


def stepped(grokfast, gradients, **sgd):
    """The parameter after SGD steps of rate 1 from 0 with these gradients."""
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=1.0, **sgd)
    attach(optimizer, grokfast)
    places = []
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        places.append(parameter.item())
    return places, optimizer.state[parameter]


def test_ema_amplifies_as_worked_out_by_hand():
    # α ½, λ 2. μ: 1, then ½·1+½·3 = 2, then ½·2+½·(−2) = 0. Amplified: 1+2·1 = 3, 3+2·2 = 7, −2+0 = −2.
    places, state = stepped(Grokfast("ema", alpha=0.5, strength=2.0), [1.0, 3.0, -2.0])
    assert places == [-3.0, -10.0, -8.0]
    assert state[SLOW].item() == 0.0


def test_the_moving_average_waits_for_a_full_window():
    # w 2, λ 3. Amplified: 1, then 3+3·(1+3)/2 = 9, then −2+3·(3−2)/2 = −½.
    places, _ = stepped(Grokfast("ma", strength=3.0, window=2), [1.0, 3.0, -2.0])
    assert places == [-1.0, -10.0, -9.5]


def test_strength_nought_changes_nothing():
    gradients = [0.3, -1.0, 2.0, 0.1]
    plain = [-0.3, 0.7, -1.3, -1.4]
    for kind in ("ema", "ma"):
        places, _ = stepped(Grokfast(kind, strength=0.0, window=2), gradients)
        assert places == pytest.approx(plain)


@pytest.mark.parametrize("kind", ["ema", "ma"])
def test_its_memory_survives_a_checkpoint_of_the_optimiser(kind):
    grokfast = Grokfast(kind, alpha=0.9, window=3)

    def run(saved=None, start=0, end=8):
        parameter = nn.Parameter(torch.ones(4) if saved is None else saved[0].clone())
        optimizer = torch.optim.AdamW([parameter], lr=0.1)
        attach(optimizer, grokfast)
        if saved is not None:
            optimizer.load_state_dict(saved[1])
        for step in range(start, end):
            parameter.grad = torch.sin(torch.arange(4.0) + step)
            optimizer.step()
        return parameter.detach(), optimizer.state_dict()

    assert torch.equal(run()[0], run(run(end=5), start=5)[0])


def test_a_parameter_without_a_gradient_is_left_alone():
    one, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([one, other], lr=0.1)
    attach(optimizer, Grokfast())
    one.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(other, torch.zeros(2)) and other not in optimizer.state
