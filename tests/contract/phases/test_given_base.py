"""A base model that is given: three variants of it, and their merge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.cognate.phase import Cognate
from components.evomerge.evaluation.parents import load_parents
from components.evomerge.phase import EvoMerge
from components.shared.models.loading import load
from components.shared.models.trunk import read_trunk
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.runtime.executor import main
from tests import shapes

SMALL = [
    "cognate.given.steps=2",
    "cognate.given.batch=4",
    "cognate.gram_items=8",
    "cognate.probe_items=8",
    "evaluation.items=8",
]
SEARCH = [
    *("evaluation.items=8", "evomerge.items=4", "evomerge.select_items=4", "evomerge.population=2"),
    *("evomerge.generations=1", "evomerge.rounds=1", "evomerge.islands=1", "evomerge.suites=[memory]"),
    "evomerge.methods=[linear, slerp, ties, dare_linear, regmean, frankenmerge, dfs]",
    "evomerge.gates=[{metric: fitness_report, value: fitness_report_base - 100%},"
    "{metric: score/memory, value: start/score/memory - 1}, {metric: size/bytes, op: '<', value: start/size/weights * 99}]",
]
VARIANTS = ("standard", "memory", "reasoning")


def variants(family: str, root: Path, *settings: str) -> list[Path]:
    """The three variants of a small random model, as phase cognate makes them."""
    base = shapes.make(family, root / "base")
    for name in VARIANTS:
        words = [
            "--input",
            str(base),
            "--output",
            str(root / name),
            "--set",
            f"variant={name}",
            *SMALL,
            *settings,
        ]
        assert main(Cognate, words) == 0
    return [root / name for name in VARIANTS]


def merged(folders: list[Path], output: Path) -> dict[str, object]:
    inputs = [word for folder in folders for word in ("--input", f"input_model={folder}")]
    assert main(EvoMerge, ["--output", str(output), *inputs, *SEARCH]) == 0
    manifest: dict[str, object] = json.loads((output / "forge.json").read_text())
    return manifest


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_three_variants_of_a_given_model_differ_from_it_carry_their_trunk_and_merge(family, tmp_path):
    folders = variants(family, tmp_path)
    base = load(tmp_path / "base")[0].state_dict()
    for folder in folders:
        model, _ = load(folder)
        state = model.state_dict()
        trunk = read_trunk(folder, state)
        assert all(torch.equal(base[name], tensor) for name, tensor in trunk.items())
        assert artifact.read(folder).manifest.metrics["distance_from_trunk"] > 0
    assert load(folders[1])[0].memory.gate.any() and load(folders[2])[0].refinement.gate.any()
    manifest = merged(folders, tmp_path / "merged")
    start = manifest["extra"]["start"]
    assert start["phase"] == "adopted" and start["digest"] == adopt(tmp_path / "base").digest
    assert [gate["passed"] for gate in manifest["gates"]] == [True, True, True]
    assert not manifest["extra"]["warnings"] or "trunk" not in str(manifest["extra"]["warnings"])
    origins = {
        record["origin"]
        for record in map(json.loads, (tmp_path / "merged/lineage.jsonl").read_text().splitlines())
    }
    assert {f"static {method}" for method in ("linear", "ties", "regmean")} <= origins or len(origins) > 5
    champion, tokenizer = load(tmp_path / "merged")
    assert champion.config.memory and champion.config.refinement
    ids = tokenizer("Put the words in order", return_tensors="pt").input_ids
    assert champion.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > ids.shape[1]


def test_with_a_frozen_base_the_shared_weights_are_the_bases_and_the_trunk_takes_no_room(tmp_path):
    folders = variants("llama", tmp_path, "cognate.given.trains=modules")
    base = load(tmp_path / "base")[0].state_dict()
    memory = load(folders[1])[0]
    assert all(torch.equal(memory.inner.state_dict()[name], tensor) for name, tensor in base.items())
    assert memory.memory.gate.any()
    assert (folders[1] / "trunk.safetensors").stat().st_size < 1000
    artifacts = [artifact.read(folder) for folder in folders]
    parents = load_parents(artifacts, base=None, device="cpu", work=tmp_path / "work")
    assert parents.tensors.base is not None
    named = {f"inner.{name}" for name, tensor in load(tmp_path / "base")[0].named_parameters()}
    assert set(parents.tensors.base) == named
