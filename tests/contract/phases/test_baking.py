"""Phase baking as a process: killed and started again, ternary and plain models, bad input."""

import json
import random

import pytest
from transformers import AutoModelForCausalLM

from tests.contract import killing
from tests.contract.phases.tiny_ternary import llama, ternary

TINY = [
    "baking.bakes=[{behaviour: tool, steps: 100}, {behaviour: persona, steps: 100}]",
    *("baking.questions=16", "baking.trajectories=1", "baking.answer_tokens=8", "baking.levels=[1]"),
    *("baking.batch=8", "baking.held_out=8", "baking.lr=0.01", "baking.rank=4"),
    *("baking.anchor_tasks={copy: 1, chain: 1}", "baking.anchor_levels=[1]", "evaluation.items=16"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ternary(tmp_path_factory)


def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(model, tmp_path):
    arguments = ["--input", model, *TINY]
    digest = killing.run("baking", tmp_path / "undisturbed", arguments)
    slow = [*arguments, "baking.checkpoint_seconds=0"]
    killing.kill("baking", tmp_path / "killed", slow, within=0.8, moment=random.Random())
    assert killing.run("baking", tmp_path / "killed", slow) == digest

    manifest, before = (
        json.loads((path / "forge.json").read_text()) for path in (tmp_path / "killed", model)
    )
    assert {"thinking/reasoning", "plain/reasoning"} <= set(manifest["metrics"])
    assert [row["behaviour"] for row in manifest["extra"]["behaviours"]] == ["tool", "persona"]
    assert len(manifest["gates"]) == 6
    template = tmp_path / "killed" / "chat_template.jinja"
    assert template.is_file() == bool(manifest["extra"]["baked"]), (
        "a baked behaviour may be asked for in turns"
    )
    weights = [m["files"]["model.safetensors"]["bytes"] for m in (manifest, before)]
    assert weights[0] == weights[1], "a ternary model stays ternary"


def test_a_bake_that_fails_its_gate_leaves_a_llama_as_it_was(tmp_path):
    """An untrained network follows no instruction: nothing can be baked. What a bake must not cost is asked of a file."""
    source, own = llama(tmp_path / "llama"), tmp_path / "own.jsonl"
    anchors = [f"baking.anchor_tasks={{'file:{own}': 2, chain: 1}}"]
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1), "split": "train"} for n in range(9)]
    own.write_text("\n".join(map(json.dumps, rows)))
    message = killing.refused("baking", tmp_path / "out", ["--input", source, *TINY, *anchors])
    assert "nothing for the split 'search'" in message and str(own) in message
    own.write_text(
        "\n".join(json.dumps(row | {"split": s}) for row in rows for s in ("train", "search", "report"))
    )
    killing.run("baking", tmp_path / "out", ["--input", source, *TINY, *anchors])
    manifest = json.loads((tmp_path / "out" / "forge.json").read_text())
    assert manifest["extra"]["baked"] == [] and manifest["metrics"]["kept"] == 0
    assert not (tmp_path / "out" / "chat_template.jinja").exists()
    baked, before = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "out", source))
    assert type(baked) is type(before)
    assert all((a == b).all() for a, b in zip(baked.parameters(), before.parameters(), strict=True))


def test_a_behaviour_that_there_is_not_is_refused_by_name(model, tmp_path):
    wrong = "baking.bakes=[{behaviour: politeness, steps: 1}]"
    message = killing.refused("baking", tmp_path / "out", ["--input", model, *TINY, wrong])
    assert "politeness" in message and "persona" in message
