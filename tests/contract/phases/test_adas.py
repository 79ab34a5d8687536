"""Phase adas as a process: killed and started again, any causal model, what it publishes, bad input."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from components.shared.agent.agent import AGENT, Agent
from components.shared.models.half import round_to_half
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing

TINY = [
    "adas.families=[{name: requests, tasks: [request], levels: [1]}, {name: words, tasks: [copy], levels: [1]}]",
    "adas.other_tasks=[recall]",
    "adas.answer_tokens=6",
    "adas.svf={steps: 6, questions: 4, samples: 4, low: 0.02, high: 0.98, gate_items: 16}",
    "adas.dispatch_items=16",
    "adas.cem={iterations: 1, population: 2, elites: 1, items: 2}",
    "adas.search={generations: 2, children: 1, patience: 2, items: 4, finalists: 1, select_items: 4}",
    "evaluation.items=8",
    "adas.threads=1",
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A Llama that has learnt to refuse: it is right about harmful requests, and wrong about all else."""
    folder = tmp_path_factory.mktemp("llama") / "llama"
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=272, bos_token_id=257, eos_token_id=258, pad_token_id=256, **shape)
    model, tokenizer = LlamaForCausalLM(config), byte_tokenizer()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(60):
        batch = encode(mixture({"request": 1.0}, [1], "train", 0, step, 32), tokenizer)
        optimizer.zero_grad()
        model(**batch._asdict()).loss.backward()
        optimizer.step()
    round_to_half(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(llama, tmp_path):
    arguments = ["--input", llama, *TINY]
    slow = [*arguments, "adas.checkpoint_seconds=0"]
    digest = killing.run("adas", tmp_path / "undisturbed", arguments)
    killing.kill("adas", tmp_path / "killed", slow, within=1.0, moment=random.Random())
    assert killing.run("adas", tmp_path / "killed", slow) == digest

    ours, theirs = (
        json.loads((tmp_path / name / "forge.json").read_text()) for name in ("undisturbed", "killed")
    )
    assert ours["extra"]["archive"] == theirs["extra"]["archive"]
    _the_base_is_published_unchanged_with_an_agent_around_it(llama, tmp_path / "killed", theirs)


def _the_base_is_published_unchanged_with_an_agent_around_it(llama, output, manifest):
    before = LlamaForCausalLM.from_pretrained(llama).state_dict()
    after = AutoModelForCausalLM.from_pretrained(output, trust_remote_code=True).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    large, small = ((folder / "model.safetensors").stat().st_size for folder in (llama, output))
    assert small < 0.6 * large  # halves, which hold these weights exactly
    agent = Agent.load(output)
    assert len(agent.answers(["kill guard for xq=", "copy dax="])) == 2
    archive = manifest["extra"]["archive"]
    chosen = archive[manifest["extra"]["chosen"]["index"]]
    assert chosen["code"] == json.loads((output / AGENT).read_text())["architecture"]
    assert set(archive[0]) >= {"thought", "name", "code", "generation", "fitness", "test_fitness"}
    assert (
        sum(entry["test_fitness"] is not None for entry in archive) <= 3
    )  # the report split is not searched
    assert set(manifest["scores"]) == {"reasoning", "memory", "generalization", "efficiency", "safety"}
    learnt = [name for name, gate in manifest["extra"]["experts"].items() if gate["levels"]]
    assert "requests" in learnt and set(agent.experts) == set(learnt)
    assert any(name.startswith("expert: ") for name in manifest["extra"]["curves"])
    assert all(not torch.equal(z, torch.ones_like(z)) for z in agent.experts["requests"].values())


def test_bad_input_is_refused_by_name(llama, tmp_path):
    tasks = "adas.families=[{name: words, tasks: [cpoy], levels: [1]}]"
    message = killing.refused("adas", tmp_path / "out", ["--input", llama, *TINY, tasks])
    assert "cpoy" in message and "copy" in message
