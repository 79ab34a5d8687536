"""Phase training as a process: killed and started again, ternary and plain models, bad input."""

import json
import random

import pytest
from transformers import AutoModelForCausalLM

from tests.contract import killing
from tests.contract.phases.tiny_ternary import llama, ternary

KINDS = ["adaptation", *["edge_of_chaos"] * 3, *["dreaming"] * 2, "self_modelling", *["stabilisation"] * 3]
TINY = [
    "training.stages=["
    + ", ".join(
        f"{{name: {n} {kind}, kind: {kind}, steps: 5, levels: [1, 2]}}" for n, kind in enumerate(KINDS)
    )
    + "]",
    *("training.tasks={copy: 1, chain: 1, recall: 1}", "training.batch=8", "training.dreams=8"),
    *("training.held_out=16", "training.probe_items=32", "evaluation.items=16"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ternary(tmp_path_factory)


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(model, adapter, tmp_path):
    arguments = ["--input", model, *TINY, f"training.engine={{adapter: {adapter}, adapter_rank: 4}}"]
    digest = killing.run("training", tmp_path / "undisturbed", arguments)
    slow = [*arguments, "training.checkpoint_seconds=0"]
    killing.kill("training", tmp_path / "killed", slow, within=1.5, moment=random.Random())
    assert killing.run("training", tmp_path / "killed", slow) == digest

    manifest, before = (
        json.loads((path / "forge.json").read_text()) for path in (tmp_path / "killed", model)
    )
    assert len(manifest["extra"]["stages"]) == 10
    assert set(manifest["scores"]) == set(before["scores"])
    assert {"thinking/reasoning", "plain/reasoning"} <= set(manifest["metrics"])
    assert manifest["metrics"]["accuracy_before"] == manifest["extra"]["controls"][0]["control_value"]
    weights = [m["files"]["model.safetensors"]["bytes"] for m in (manifest, before)]
    assert weights[0] == weights[1], "a ternary model stays ternary"


def test_a_llama_is_trained_as_a_llama(tmp_path):
    """And undoes every stage when none may raise the held-out loss: the rate is absurd, the weights stay what they were."""
    source = llama(tmp_path / "llama")
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(60)))
    target = f"training.target=['file:{own}', chain]"
    wild = ["training.lr=5.0", "training.tolerance=0", "training.sanity_steps=0", target]
    killing.run("training", tmp_path / "out", ["--input", source, *TINY, *wild])
    manifest = json.loads((tmp_path / "out" / "forge.json").read_text())
    kept = [stage["stage"] for stage in manifest["extra"]["stages"] if stage["kept"]]
    assert manifest["metrics"]["held_out_loss"] <= manifest["metrics"]["held_out_loss_before"]
    assert 0 <= manifest["metrics"]["pass_at_1"] < 0.9
    trained, before = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "out", source))
    assert type(trained) is type(before)
    same = all((a == b).all() for a, b in zip(trained.parameters(), before.parameters(), strict=True))
    assert same == (not kept)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("training.tasks={chian: 1}", "chain"),
        ("training.stages=[]", "10"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(model, tmp_path, wrong, message):
    assert message in killing.refused("training", tmp_path / "out", ["--input", model, *TINY, wrong])
