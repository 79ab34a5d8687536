"""LoRA and QLoRA: only the change learns, and merged the model is a plain one that says the same."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.runtime.errors import InputError
from components.shared.training.adapters import LowRankChange, put_on
from components.shared.training.settings import EngineSettings

IDS = torch.arange(12).reshape(2, 6)


def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=31, **shape))


def learn(network):
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        network(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("adapter", ["lora", "qlora"])
def test_only_the_change_learns_and_merging_gives_a_plain_model_with_it(adapter):
    network, before = model(), model()
    change = put_on(network, EngineSettings(adapter=adapter, adapter_rank=4))
    assert all("lora_" in name for name, p in network.named_parameters() if p.requires_grad)
    learn(network)
    with torch.no_grad():
        unmerged = network(input_ids=IDS).logits
    change.merge(network)
    assert network.state_dict().keys() == before.state_dict().keys()
    with torch.no_grad():
        merged = network(input_ids=IDS).logits
    # The 4 bits are gone from the merged weights, so that it only nearly says the same.
    torch.testing.assert_close(merged, unmerged, atol=1e-5 if adapter == "lora" else 0.2, rtol=1e-4)
    moved = network.model.layers[0].mlp.up_proj.weight - before.model.layers[0].mlp.up_proj.weight
    assert 0 < int(torch.linalg.matrix_rank(moved.detach(), atol=1e-5)) <= 4


def test_a_ternary_model_is_refused_by_name():
    network = model()
    network.config.storage = {"x": {}}
    with pytest.raises(InputError, match="coded"):
        LowRankChange(network, EngineSettings(adapter="lora"))
