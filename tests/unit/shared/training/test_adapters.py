"""LoRA and QLoRA: only the change learns, and merged the model is a plain one that says the same."""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.bitnet.conversion import convert
from components.shared.models.loading import load, save, wrap
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.adapters import put_on
from components.shared.training.settings import EngineSettings

IDS = torch.arange(12).reshape(2, 6)


def model(vocabulary=31):
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **shape))


@pytest.fixture(scope="module")
def ternary(tmp_path_factory):
    """A model as phase bitnet leaves it."""
    folder = tmp_path_factory.mktemp("ternary")
    network = wrap(model(272))
    convert(network, {})
    save(network, byte_tokenizer(), folder, card="")
    return folder


def adapted(network, adapter="lora"):
    """The network with a change on it, and what merges that."""
    merge = put_on(network, EngineSettings(adapter=adapter, adapter_rank=4), torch.Generator().manual_seed(1))
    return network, merge


def learn(network):
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        network(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()


@torch.no_grad()
def logits(network):
    return network(input_ids=IDS).logits


@pytest.mark.parametrize("adapter", ["lora", "qlora"])
def test_only_the_change_learns_and_merging_gives_a_plain_model_with_it(adapter):
    before = model()
    network, merge = adapted(model(), adapter)
    learning = [name for name, p in network.named_parameters() if p.requires_grad]
    assert len(learning) == 14 and all("lora_" in name or "parametrizations" in name for name in learning)
    learn(network)
    unmerged = logits(network)
    merge(network)
    assert network.state_dict().keys() == before.state_dict().keys()
    # The 4 bits are gone from the merged weights, so that it only nearly says the same.
    torch.testing.assert_close(logits(network), unmerged, atol=1e-5 if adapter == "lora" else 0.2, rtol=1e-4)
    moved = network.model.layers[0].mlp.up_proj.weight - before.model.layers[0].mlp.up_proj.weight
    assert 0 < int(torch.linalg.matrix_rank(moved.detach(), atol=1e-5)) <= 4


def test_on_a_ternary_model_what_was_learnt_is_what_is_merged_and_stored(ternary, tmp_path):
    loaded, tokenizer = load(ternary, trainable=True)
    before = logits(loaded)
    network, merge = adapted(loaded)
    learn(network)
    unmerged = logits(network)
    merge(network)
    assert any(isinstance(module, BitLinear) for module in network.modules())
    assert not torch.equal(unmerged, before)
    torch.testing.assert_close(logits(network), unmerged, atol=1e-5, rtol=0)
    save(network, tokenizer, tmp_path, card="")
    torch.testing.assert_close(logits(load(tmp_path)[0]), unmerged, atol=1e-4, rtol=0)


def test_a_copy_can_be_merged_in_the_models_place():
    network, merge = adapted(model())
    learn(network)
    twin, unmerged = copy.deepcopy(network), logits(network)
    merge(twin)
    torch.testing.assert_close(logits(twin), unmerged, atol=1e-5, rtol=1e-4)


def test_weights_of_4_bits_in_the_place_of_ternary_ones_are_refused_by_layer(ternary):
    network, _ = load(ternary, trainable=True)
    with pytest.raises(InputError, match=r"ternary.*q_proj"):
        adapted(network, "qlora")


@pytest.mark.parametrize("adapter", ["lora", "qlora"])
def test_a_coded_layer_has_no_place_for_a_change(adapter, ternary):
    network, _ = load(ternary)
    with pytest.raises(InputError, match=r"coded.*q_proj"):
        adapted(network, adapter)


def test_no_module_of_the_phases_needs_the_extra_packages_to_be_imported():
    """The extra `adapters`: a function that needs one of them imports it."""
    components = Path(__file__).resolve().parents[4] / "components"
    at_the_top = {
        name.split(".")[0]
        for file in components.rglob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert "torch" in at_the_top and not at_the_top & {"peft", "bitsandbytes"}
