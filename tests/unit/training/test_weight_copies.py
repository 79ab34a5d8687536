"""What a stage keeps of a model's weights: as it found them, and their average."""

from __future__ import annotations

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.training.low_rank import adapt
from components.training.weight_copies import Found, WeightAverage

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=True, **SHAPE))


def moved(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.parameters():
            if each.requires_grad:
                each.add_(torch.randn(each.shape, generator=generator))


def test_a_model_is_put_back_as_it_was_found_and_tied_weights_are_copied_once():
    model = llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found, again = Found(model), Found(llama())
    assert sum(p.numel() for p in found.parameters()) == model.num_parameters()
    moved(model, 1)
    again.load_state_dict(found.state_dict())
    again.put_back(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("rank", [None, 4])
def test_the_average_is_torchs_bit_for_bit_and_holds_what_learns_alone(rank):
    model = llama()
    if rank is not None:
        adapt(model, rank, torch.Generator().manual_seed(1))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    theirs.update_parameters(model)
    ours = WeightAverage(model, 0.7)
    for step in range(3):
        moved(model, step)
        theirs.update_parameters(model)
        ours.update(model)
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(p.numel() for p in ours.parameters()) == learnt
    ours.put_into(model)
    expected = theirs.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
