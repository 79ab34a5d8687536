"""Phase cognate as a process: killed and started again, shared trunk, foreign models, bad input."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing

TINY = [
    "cognate.model={hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, "
    "memory_size: 16, refinement_size: 32}",
    *(f"cognate.{course}.steps=24" for course in ("trunk", "standard", "memory", "reasoning")),
    *("cognate.batch=8", "cognate.gram_items=16", "cognate.probe_items=16", "evaluation.items=16"),
]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunk") / "trunk"
    killing.run("cognate", folder, ["--step", "trunk", *TINY])
    return folder


def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(trunk, tmp_path):
    arguments = ["--input", trunk, "--set", "variant=memory", *TINY, "cognate.memory.steps=120"]
    slow = [*arguments, "cognate.checkpoint_seconds=0"]
    digest = killing.run("cognate", tmp_path / "undisturbed", arguments)
    killing.kill("cognate", tmp_path / "killed", slow, within=0.5, moment=random.Random())
    assert killing.run("cognate", tmp_path / "killed", slow) == digest


def test_a_variant_carries_its_trunk_and_loads_in_plain_transformers(trunk, tmp_path):
    killing.run("cognate", tmp_path / "variant", ["--input", trunk, "--set", "variant=reasoning", *TINY])
    base = load_file(tmp_path / "variant" / "trunk.safetensors")
    assert all(torch.equal(t, base[n]) for n, t in load_file(trunk / "model.safetensors").items())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "variant", trust_remote_code=True)
    assert model.config.refinement and not model.config.memory
    manifest = json.loads((tmp_path / "variant" / "forge.json").read_text())
    assert manifest["parents"] == [json.loads((trunk / "forge.json").read_text())["digest"]]
    assert set(manifest["scores"]) == {"reasoning", "memory", "generalization", "efficiency", "safety"}


def test_a_llama_takes_a_cognates_place_with_its_weights_unchanged(tmp_path):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=272, **shape))
    llama.save_pretrained(tmp_path / "llama")
    byte_tokenizer().save_pretrained(tmp_path / "llama")
    killing.run("cognate", tmp_path / "out", ["--set", f"variant={tmp_path / 'llama'}", *TINY])
    published = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(tensor, published[name]) for name, tensor in llama.state_dict().items())
    assert (tmp_path / "out" / "grams.safetensors").exists()


def test_a_variant_that_does_not_exist_is_refused_by_name(tmp_path):
    message = killing.refused("cognate", tmp_path / "out", ["--set", "variant=memroy", *TINY])
    assert "memroy" in message and "standard, memory, reasoning" in message


def test_a_trunk_of_another_geometry_is_refused(trunk, tmp_path):
    wider = [*TINY, "cognate.model.hidden_size=48"]
    message = killing.refused(
        "cognate", tmp_path / "out", ["--input", trunk, "--set", "variant=memory", *wider]
    )
    assert "another geometry" in message
