"""Phase evomerge by hand: its champion, killed and started again, on foreign models, with bad input."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from components.shared.models.loading import build, load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact import artifact
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing
from tests.contract.in_process import torch_as_before, tracking  # noqa: F401
from tests.contract.phases.evomerge_cases import (
    GEOMETRY,
    SMALL,
    models,
    refused,
    run,
    spread,
    three_cognates,  # noqa: F401
    train,
)


@pytest.fixture(scope="module")
def alone(cognates: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the phase in one process."""
    folder = tmp_path_factory.mktemp("alone") / "champion"
    run(folder, *models(cognates))
    return folder


def test_the_champion_is_published_with_its_controls_its_population_and_its_lineage(
    alone: Path, cognates: list[Path]
) -> None:
    manifest = artifact.read(alone).manifest
    assert manifest.kind == "model"
    assert manifest.parents == [artifact.read(folder).digest for folder in cognates]
    assert set(manifest.scores) == {"reasoning", "memory", "generalization", "efficiency", "safety"}
    generations = manifest.extra["population"]
    assert [entry["generation"] for entry in generations] == list(range(9))
    best = max(member["fitness"] for member in generations[0]["members"])
    assert manifest.metrics["fitness"] >= best == manifest.metrics["fitness_generation_zero"]
    assert {control["control"].split(":")[0] for control in manifest.extra["controls"]} == {
        "best parent",
        "best static merge",
    }
    for control in manifest.extra["controls"]:
        assert control["holds"] == (control["difference_low"] > 0)
    assert "Fitness by generation" in manifest.extra["curves"]
    lines = [json.loads(line) for line in (alone / "lineage.jsonl").read_text().splitlines()]
    genomes = {line["genome"] for line in lines}
    assert len(lines) == len(genomes) == manifest.metrics["evaluations"]
    assert all(set(line["parents"]) <= genomes for line in lines)
    assert {"base", "parent 0", "static ties", "static regmean", "mutation"} <= {
        line["origin"] for line in lines
    }


def test_the_champion_loads_in_plain_transformers_and_has_the_modules_of_all_variants(alone: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(alone, trust_remote_code=True)
    assert model.config.memory and model.config.refinement
    assert model.generate(torch.tensor([[257, 97, 98]]), max_new_tokens=3, do_sample=False).shape[1] <= 6
    assert not (alone / "trunk.safetensors").exists()


def test_workers_that_share_nothing_but_genomes_end_with_the_same_champion(
    alone: Path, cognates: list[Path], tmp_path: Path
) -> None:
    assert spread(cognates, tmp_path, 2).digest == artifact.read(alone).digest


def test_killed_at_a_random_moment_it_ends_with_the_identical_champion(
    alone: Path, cognates: list[Path], tmp_path: Path
) -> None:
    slow = [*SMALL, *models(cognates), "evomerge.checkpoint_seconds=0"]
    killing.kill("evomerge", tmp_path / "killed", slow, within=0.3, moment=random.Random())
    assert killing.run("evomerge", tmp_path / "killed", slow) == artifact.read(alone).digest


def llama(folder: Path, seed: int, near: Path | None = None, **changes: Any) -> Path:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{"vocab_size": 272} | GEOMETRY | changes))
    if near is not None:
        start = load_file(near / "model.safetensors")
        mixed = {name: start[name] + 0.02 * torch.randn_like(start[name]) for name in start}
        model.load_state_dict(mixed, strict=False)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_foreign_models_without_trunk_and_grams_are_merged_by_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And by a file of questions, of which every model answers half: any text is right, or none that it would write."""
    base = llama(tmp_path / "base", 0)
    folders = [llama(tmp_path / f"llama-{seed}", seed, near=base) for seed in (1, 2)]
    own = tmp_path / "own.jsonl"
    right = {"answer": "a", "grader": {"name": "regex", "pattern": "^"}, "limit": 1}
    rows = [
        {"prompt": f"{n} {split}", "split": split} | (right if n % 2 else {"answer": "ä" * 9})
        for split in ("search", "select", "report")
        for n in range(8)
    ]
    asked = (f"evomerge.suites=['file:{own}']", "evomerge.fitness=accuracy")
    own.write_text("\n".join(map(json.dumps, rows[:16])))
    assert "nothing for the split 'report'" in refused(capsys, tmp_path / "out", *models(folders), *asked)
    own.write_text("\n".join(map(json.dumps, rows)))
    manifest = run(tmp_path / "out", *models(folders), *asked)
    assert manifest.metrics["fitness"] == 0.5
    assert any("RegMean is left out" in text for text in manifest.extra["warnings"])
    assert any("task vectors are left out" in text for text in manifest.extra["warnings"])
    methods = {member["method"] for entry in manifest.extra["population"] for member in entry["members"]}
    assert methods <= {"linear", "slerp", "nuslerp", "karcher", "featcal", "frankenmerge", "dfs"}
    model, _ = load(tmp_path / "out")
    assert isinstance(model, LlamaForCausalLM)


def test_a_base_that_is_given_makes_task_vectors_possible(tmp_path: Path) -> None:
    base = llama(tmp_path / "base", 0)
    folders = [llama(tmp_path / f"llama-{seed}", seed, near=base) for seed in (1, 2)]
    manifest = run(tmp_path / "out", *models(folders), f"evomerge.base={base}", "evomerge.methods=[ties]")
    origins = {member["origin"] for member in manifest.extra["population"][0]["members"]}
    assert {"base", "static ties"} <= origins


def test_parents_of_different_initialisations_are_merged_with_a_warning(tmp_path: Path) -> None:
    tasks = {"max": 1.0, "next": 1.0, "recall": 1.0}  # of the suite below
    folders = []
    for seed in (1, 2):
        folder = tmp_path / f"stranger-{seed}"
        model = train(build(CognateConfig(**GEOMETRY), seed=seed), tasks, 60)
        save(model, byte_tokenizer(), folder, card="")
        folders.append(folder)
    manifest = run(
        tmp_path / "out", *models(folders), "evomerge.generations=0", "evomerge.suites=[efficiency]"
    )
    [connection] = manifest.extra["connectivity"]
    assert connection["barrier"] > 0.05 and not connection["connected"]
    assert any("do not merge" in text for text in manifest.extra["warnings"])


def test_one_model_alone_is_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    assert "two or more models" in refused(capsys, tmp_path / "out", *models(cognates[:1]))


@pytest.mark.parametrize(
    ("changes", "meaning"),
    [
        ({"hidden_size": 48}, "widths"),
        ({"num_hidden_layers": 3}, "depths"),
    ],
)
def test_models_that_do_not_fit_are_refused_with_the_reason(
    changes: dict[str, int], meaning: str, tmp_path: Path, capsys: Any
) -> None:
    folders = [llama(tmp_path / "a", 0), llama(tmp_path / "b", 1, **changes)]
    message = refused(capsys, tmp_path / "out", *models(folders))
    assert meaning in message and str(next(iter(changes.values()))) in message


def test_a_cognate_and_a_llama_are_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    message = refused(capsys, tmp_path / "out", *models([cognates[0], llama(tmp_path / "llama", 0)]))
    assert "architectures" in message and "llama" in message


def test_a_state_of_another_search_is_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    run(tmp_path / "results", "--step", "worker", *models(cognates), "evomerge.generations=0")
    state = ["--input", f"state={tmp_path / 'results'}"]
    message = refused(capsys, tmp_path / "out", *models(cognates[::-1]), *state)
    assert "another search" in message and "models" in message
    message = refused(capsys, tmp_path / "out", *models(cognates), *state, "--seed", "1")
    assert "seed" in message


def test_a_selection_without_results_is_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    assert "no results" in refused(capsys, tmp_path / "out", "--step", "select", *models(cognates))
