"""Weights in a file say what they said in memory, and are in memory only while their module computes."""

import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.training.paged import paged

IDS = torch.arange(24).view(2, 12)
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=512, tie_word_embeddings=True, **SHAPE)).eval()


def resident(folder):
    """Bytes of the files mapped from a folder that are in this process's memory."""
    maps = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    found = [each for each in maps if str(folder) in each.partition("\n")[0]]
    assert found
    return sum(int(re.search(r"Rss:\s+(\d+) kB", each)[1]) << 10 for each in found)


@torch.no_grad()
def test_the_model_says_the_same_to_the_last_bit_inside_and_afterwards(model, tmp_path):
    before, weights = model(IDS).logits, {name: each.clone() for name, each in model.state_dict().items()}
    with paged(model, tmp_path, least=0):
        assert torch.equal(model(IDS).logits, before)
        assert torch.equal(model(IDS).logits, before)
    assert torch.equal(model(IDS).logits, before)
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight and not list(tmp_path.iterdir())


@torch.no_grad()
def test_a_module_that_has_computed_leaves_no_weights_in_memory(model, tmp_path):
    seen = []
    with paged(model, tmp_path, least=0):
        down = model.model.layers[1].mlp.down_proj
        down.register_forward_pre_hook(lambda *_: seen.append(resident(tmp_path)))
        down.weight.sum()
        assert resident(tmp_path) >= down.weight.nbytes
        model(IDS)
        assert resident(tmp_path) == 0
    assert seen[0] <= down.weight.nbytes + (64 << 10)  # the kernel reads a little ahead


def test_a_small_model_stays_where_it_is(model, tmp_path):
    places = [each.data_ptr() for each in model.parameters()]
    with paged(model, tmp_path):
        assert [each.data_ptr() for each in model.parameters()] == places
