"""Muon and AdamW as one optimiser."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon

from components.shared.optim.grokfast import Grokfast
from components.shared.optim.optimizer import BETAS, build_optimizer, hidden_matrices
from components.shared.optim.schedule import set_rate
from components.shared.runtime.errors import ConfigError


class Small(nn.Module):
    """Embedding, a hidden layer with bias, a thin gate, a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 32)
        self.hidden = nn.Linear(32, 48)
        self.back = nn.Linear(48, 32, bias=False)
        self.gate = nn.Linear(32, 2)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 20, bias=False)

    def get_output_embeddings(self):
        return self.head

    def forward(self, ids):
        x = self.norm(self.embedding(ids))
        x = x + self.back(torch.relu(self.hidden(x)))
        return self.head(x) * self.gate(x).sigmoid().mean(-1, keepdim=True)


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        ids = torch.arange(20).roll(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(ids), ids.roll(1)).backward()
        optimizer.step()


def test_only_hidden_matrices_go_to_muon():
    model = Small()
    assert {id(p) for p in hidden_matrices(model)} == {id(model.hidden.weight), id(model.back.weight)}
    model.back.weight.requires_grad_(False)
    assert [id(p) for p in hidden_matrices(model)] == [id(model.hidden.weight)]


@pytest.mark.parametrize(("kind", "tolerance"), [("muon", 0.03), ("muon_bfloat16", 0.03)])
def test_it_does_what_torchs_muon_and_adamw_do_side_by_side(kind, tolerance):
    start, ours, theirs = Small(), Small(), Small()
    optimizer = build_optimizer(ours, kind, lr=0.01, weight_decay=0.1)
    matrices = hidden_matrices(theirs)
    others = [p for p in theirs.parameters() if all(p is not matrix for matrix in matrices)]
    muon = Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(
        [
            {"params": [p for p in others if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=BETAS,
    )
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for each in (optimizer, muon, adamw):
            each.step()
    for name, before in start.named_parameters():
        moved = theirs.get_parameter(name) - before
        difference = (ours.get_parameter(name) - theirs.get_parameter(name)).norm() / moved.norm()
        assert difference <= (tolerance if name in ("hidden.weight", "back.weight") else 0), name


def test_a_restored_optimiser_goes_on_in_the_dtype_that_it_began_in():
    began, model = Small(), Small()
    saved = build_optimizer(began, "muon_bfloat16", 0.01).state_dict()
    optimizer = build_optimizer(model, "muon", 0.01)
    optimizer.load_state_dict(saved)
    assert [group["dtype"] for group in optimizer.param_groups if group["muon"]] == ["bfloat16"]
    train(model, optimizer, 1)
    train(began, build_optimizer(began, "muon_bfloat16", 0.01), 1)
    assert torch.equal(model.hidden.weight, began.hidden.weight)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("grokfast", [None, Grokfast(alpha=0.9)])
def test_training_goes_on_exactly_from_a_state_dict(kind, grokfast):
    whole = Small()
    optimizer = build_optimizer(whole, kind, 0.01, 0.1, grokfast)
    train(whole, optimizer, 4)
    resumed = copy.deepcopy(whole)
    state = copy.deepcopy(optimizer.state_dict())
    train(whole, optimizer, 4, start=4)

    again = build_optimizer(resumed, kind, 0.01, 0.1, grokfast)
    again.load_state_dict(state)
    train(resumed, again, 4, start=4)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert set(state) == {"state", "param_groups"}


def test_the_rate_reaches_every_group_after_a_restore_too():
    model = Small()
    optimizer = build_optimizer(model, "muon", lr=0.01)
    train(model, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    set_rate(optimizer, 0.0)
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, 1)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    set_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.005}


def test_grokfast_inside_changes_the_course():
    with_it, without = Small(), Small()
    train(with_it, build_optimizer(with_it, "adamw", 0.01, grokfast=Grokfast()), 5)
    train(without, build_optimizer(without, "adamw", 0.01), 5)
    assert not torch.equal(with_it.hidden.weight, without.hidden.weight)


def test_vectors_are_not_decayed():
    optimizer = build_optimizer(Small(), "muon", 0.01, weight_decay=0.3)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.3 if parameter.ndim >= 2 else 0.0)


def test_a_frozen_model_and_an_unknown_kind_are_refused():
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(Small().requires_grad_(False))
    with pytest.raises(ConfigError, match="no optimiser 'lion'"):
        build_optimizer(Small(), "lion")
