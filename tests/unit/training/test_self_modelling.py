"""Self-modelling: the loss by hand, its gradient into the target, the spread of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.training.low_rank import adapt, merge
from components.training.self_modelling import SelfModel, self_modelling_loss, weight_spread

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def states(*values: float) -> tuple[torch.Tensor, ...]:
    """Hidden states (1, 2, 1) of three layers from six numbers."""
    return tuple(torch.tensor(values, dtype=torch.float32).reshape(3, 1, 2, 1).unbind())


def test_the_loss_is_the_squared_error_of_the_middle_layer_over_real_tokens():
    read_out = SelfModel(1)
    with torch.no_grad():
        read_out.weight.fill_(2.0)
        read_out.bias.fill_(1.0)
    hidden = states(9, 9, 4, 5, 1, 3)  # â = 2·1 + 1 = 3 and 2·3 + 1 = 7; a = 4 and 5
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert self_modelling_loss(read_out, hidden, both).item() == pytest.approx(
        ((3 - 4) ** 2 + (7 - 5) ** 2) / 2
    )
    assert self_modelling_loss(read_out, hidden, first).item() == pytest.approx(1.0)


def test_the_gradient_flows_into_the_target_and_into_the_prediction():
    drawn = torch.randn(3, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embeddings, middle, last = (layer.clone().requires_grad_() for layer in drawn)
    read_out = SelfModel(4).double()
    nn.init.eye_(read_out.weight)
    self_modelling_loss(read_out, (embeddings, middle, last), torch.ones(2, 3, dtype=torch.bool)).backward()
    error = (last - middle).detach()
    assert torch.allclose(middle.grad, -2 * error / error.numel())
    assert torch.allclose(last.grad, 2 * error / error.numel())
    assert embeddings.grad is None and read_out.weight.grad.abs().sum() > 0


def test_a_new_read_out_predicts_nothing_so_that_the_loss_begins_at_the_mean_square():
    hidden = tuple(torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind())
    loss = self_modelling_loss(SelfModel(4), hidden, torch.ones(2, 5, dtype=torch.bool))
    assert loss.item() == pytest.approx(hidden[1].square().mean().item())


def test_the_spread_is_the_standard_deviation_of_all_matrices_together():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        network[1].weight.copy_(torch.tensor([[5.0, 6.0]]))
    assert weight_spread(network) == pytest.approx(torch.arange(1.0, 7.0).std().item())


def test_the_spread_of_an_adapted_network_is_that_of_what_it_computes_with():
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SHAPE))
    learnt = adapt(network, 4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        learnt[1].add_(0.5)
    changed = weight_spread(network)
    merge(network)
    assert weight_spread(network) == pytest.approx(changed, rel=1e-6)
