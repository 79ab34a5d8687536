"""The sanity gate lets a network through that learns, stops one that cannot, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch

from components.shared.evaluation.sanity import loss_falls
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.tokenizer import byte_tokenizer

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


def gate(lr: float, model=None, **more):
    model = model or build(CognateConfig(**SHAPE), seed=0)
    return loss_falls(
        model,
        byte_tokenizer(),
        lambda m: build_optimizer(m, "adamw", lr),
        steps=4,
        batch=8,
        seed=0,
        where="here",
        **more,
    )


def test_a_network_that_learns_passes_and_stays_what_it_was():
    model = build(CognateConfig(**SHAPE), seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    found = gate(0.01, model)
    assert found.passed and found.after < found.before
    assert found.as_dict() == {
        "task": "copy", "steps": 4, "before": round(found.before, 5), "after": round(found.after, 5), "passed": True,
    }  # fmt: skip
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_network_that_cannot_learn_is_stopped_with_both_losses_named():
    with pytest.raises(PhaseFailed, match="sanity gate") as refused:
        gate(1e-30)
    assert "copying a word" in refused.value.why and refused.value.where == "here"


def test_what_is_trained_is_what_training_would_train():
    prepared = []
    gate(0.01, prepare=prepared.append)
    assert len(prepared) == 1 and isinstance(prepared[0], torch.nn.Module)
