"""Changes on frozen weights: merging is exact, taking off leaves the model as it was, the head is let alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from components.shared.models.build import build
from components.shared.models.latents import spread_latents
from components.shared.models.loading import load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.ternary import BitLinear, ternarise
from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.low_rank import LowRank, adapt, merge, unchanged

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
IDS = torch.arange(12)[None]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ternary():
    model = build(CognateConfig(**SHAPE), seed=0).eval()
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        old = getattr(model.model.layers[0].self_attn, name)
        new = BitLinear(old.in_features, old.out_features)
        new.weight = old.weight
        setattr(model.model.layers[0].self_attn, name, new)
    spread_latents(model, generator())
    return model


def plain():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=272, tie_word_embeddings=False, **SHAPE)).eval()


def moved(model, rank):
    learnt = adapt(model, rank, generator(1))
    with torch.no_grad():
        for parameter in learnt:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(2)))
    return learnt


@pytest.mark.parametrize("rank", [4, None])
@pytest.mark.parametrize("make", [ternary, plain])
def test_a_new_change_changes_nothing_and_merging_a_trained_one_changes_nothing_more(make, rank):
    model = make()
    before = model(input_ids=IDS).logits
    fresh = copy.deepcopy(model)
    adapt(fresh, rank, generator(1))
    assert torch.equal(fresh(input_ids=IDS).logits, before)
    moved(model, rank)
    adapted = model(input_ids=IDS).logits
    assert not torch.equal(adapted, before)
    merge(model)
    assert torch.equal(model(input_ids=IDS).logits, adapted)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("make", [ternary, plain])
def test_a_change_that_is_not_kept_leaves_the_weights_bit_for_bit(make):
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved(model, 4)
    merge(model, keep=False)
    after = model.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)


def test_what_is_stored_after_merging_is_the_adapted_function(tmp_path):
    """Through the packing of trits too: the function that was trained is the one that is published."""
    model = ternary()
    moved(model, 4)
    adapted = model(input_ids=IDS).logits
    merge(model)
    save(model, byte_tokenizer(), tmp_path, card="")
    torch.testing.assert_close(load(tmp_path)[0](input_ids=IDS).logits, adapted)


def test_on_a_bitlinear_the_sum_is_quantised_and_the_gradient_passes_straight_through():
    layer = BitLinear(16, 16)
    low = LowRank(layer.weight, 4, 8.0, generator())
    with torch.no_grad():
        low.b.normal_(generator=generator(1))
    original = layer.weight.detach().clone()
    nn.utils.parametrize.register_parametrization(layer, "weight", low)
    torch.testing.assert_close(layer.weight, original + 2.0 * low.b @ low.a)
    x = torch.eye(16)
    torch.testing.assert_close(layer(x), ternarise(original + 2.0 * low.b @ low.a).T)
    layer(x).sum().backward()
    torch.testing.assert_close(low.b.grad, 2.0 * torch.ones(16, 16) @ low.a.T)


@torch.no_grad()
def test_of_an_adapted_bitlinear_only_what_it_computes_with_is_kept_and_only_until_its_change_moves(
    monkeypatch,
):
    model = ternary()
    learnt = moved(model, 4)
    made = []
    monkeypatch.setattr(
        LowRank, "forward", lambda self, w, forward=LowRank.forward: made.append(1) or forward(self, w)
    )
    layer = model.model.layers[0].self_attn.q_proj
    once, again = layer.quantised(), layer.quantised()
    assert once is again and len(made) == 1
    assert torch.equal(once, ternarise(layer.weight))
    held = [tensor for part in layer.cached for tensor in (part if isinstance(part, list) else [part])]
    own = {id(parameter) for parameter in layer.parameters()}
    assert [id(t) for t in held if isinstance(t, torch.Tensor) and id(t) not in own] == [id(once)]
    learnt[1].add_(1.0)
    assert not torch.equal(layer.quantised(), once)


def test_the_head_thin_layers_and_the_talk_head_are_let_alone():
    model = plain()
    model.talk_head = nn.Linear(32, 32)
    model.gate = nn.Linear(32, 2)
    learnt = adapt(model, 4, generator())
    changed = {name.split(".parametrizations")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 1)[1] for name in changed} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert len(learnt) == 14


def test_gpt2_whose_weights_lie_the_other_way_round_is_adapted_too():
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=272)).eval()
    ids = torch.arange(8)[None]
    before, parameters = model(ids).logits, adapt(model, 4, torch.Generator().manual_seed(0))
    assert torch.equal(model(ids).logits, before) and len(parameters) == 8
    with torch.no_grad():
        parameters[1].normal_()
    changed = model(ids).logits
    merge(model)
    assert not torch.allclose(changed, before) and torch.allclose(model(ids).logits, changed, atol=1e-5)


def test_a_model_of_which_nothing_can_be_adapted_is_refused():
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=272)
    with pytest.raises(InputError, match="could be put on"):
        adapt(GPT2LMHeadModel(config), 4, torch.Generator())


def test_the_rank_is_bounded_as_asked():
    model = plain()
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    moved(model, 3)
    merge(model)
    assert torch.linalg.matrix_rank(model.model.layers[0].mlp.up_proj.weight - before, rtol=1e-4) == 3


def test_the_state_holds_weights_and_changes_and_gives_either_back():
    model, again = ternary(), ternary()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved(model, 4)
    adapt(again, 4, generator(3))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(input_ids=IDS).logits, model(input_ids=IDS).logits)
    after = unchanged(model.state_dict())
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("make", [ternary, plain])
def test_what_is_learnt_with_fewer_bits_in_the_forward_pass_is_what_is_merged(make):
    model = make()
    moved(model, 4)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        adapted = model(input_ids=IDS).logits
        merge(model)
        assert torch.equal(model(input_ids=IDS).logits, adapted)


def test_a_weight_of_16_bits_is_changed_by_a_float32_change_and_merged_as_it_was_learnt():
    model = plain().bfloat16()
    for parameter in moved(model, 4):
        parameter.data = parameter.data.float()
    adapted = model(input_ids=IDS).logits
    merge(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model(input_ids=IDS).logits, adapted)
