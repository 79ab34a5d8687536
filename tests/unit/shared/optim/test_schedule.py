"""Schedules at the steps where their values are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.shared.optim.schedule import set_rate, warmup_cosine, warmup_stable_decay


def test_cosine_rises_stands_at_one_and_falls_to_its_floor():
    assert [warmup_cosine(step, 110, 10) for step in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert warmup_cosine(60, 110, 10) == pytest.approx(0.5)
    assert warmup_cosine(110, 110, 10, floor=0.1) == pytest.approx(0.1)
    assert warmup_cosine(500, 110, 10) == pytest.approx(0.0)


def test_wsd_is_flat_between_warm_up_and_decay():
    values = [warmup_stable_decay(step, 100, warmup=10, decay=20, floor=0.2) for step in range(101)]
    assert values[0] == 0.1 and set(values[10:81]) == {1.0}
    assert values[90] == pytest.approx(0.6) and values[100] == pytest.approx(0.2)
    assert values == sorted(values[:81]) + sorted(values[81:], reverse=True)


def test_schedules_without_warm_up_or_decay_start_and_stay_at_one():
    assert warmup_cosine(0, 10) == 1.0
    assert [warmup_stable_decay(step, 10) for step in (0, 9, 10)] == [1.0, 1.0, 1.0]


def test_each_group_keeps_its_own_initial_rate():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [
            {"params": [parameters[0]], "lr": 1.0, "initial_lr": 1.0},
            {"params": [parameters[1]], "lr": 3.0, "initial_lr": 3.0},
        ]
    )
    set_rate(optimizer, 0.5)
    set_rate(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.3])
