"""Phase evomerge: by hand and spread over workers, killed and started again, on foreign models, with bad input."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from components.evomerge.phase import EvoMerge
from components.shared.models.card import model_card
from components.shared.models.gram import capture_grams, save_grams
from components.shared.models.hub.configuration_cognate import CognateConfig
from components.shared.models.loading import build, extend, load, save
from components.shared.runtime import artifact
from components.shared.runtime.artifact import Manifest
from components.shared.runtime.executor import main
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing
from tests.contract.in_process import torch_as_before, tracking  # noqa: F401

SMALL = [
    *("evaluation.items=16", "evomerge.threads=1", "evomerge.items=8"),
    *("evomerge.select_items=8", "evomerge.population=4"),
    *("evomerge.generations=8", "evomerge.rounds=2", "evomerge.islands=2", "evomerge.layer_groups=2"),
    "evomerge.suites=[efficiency, reasoning]",
]
SHARED = [
    *("evomerge.fan_out=evaluations", "evomerge.rounds=3", "evomerge.generations=3"),
    "evomerge.methods=[linear, slerp, ties, regmean]",
]
GEOMETRY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
COURSES: dict[str, tuple[dict[str, float], dict[str, bool]]] = {
    "standard": ({"max": 1, "copy": 1}, {}),
    "memory": ({"recall": 1, "next": 1}, {"memory": True}),
    "reasoning": ({"letter": 1, "next": 1}, {"refinement": True}),
}


def train(model: torch.nn.Module, tasks: dict[str, float], steps: int) -> torch.nn.Module:
    rule = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        batch = encode(mixture(tasks, [1], "train", 0, step, 16), byte_tokenizer())
        loss = model(input_ids=batch.input_ids, labels=batch.labels).loss
        rule.zero_grad()
        loss.backward()
        rule.step()
    return model.eval()


@pytest.fixture(scope="module")
def cognates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three variants of a trunk, as phase cognate leaves them."""
    root = tmp_path_factory.mktemp("cognates")
    config = CognateConfig(**GEOMETRY, memory_size=16, refinement_size=32)
    trunk = train(build(config, seed=0), {"copy": 1, "next": 1, "recall": 1}, 30)
    base = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    for name, (tasks, modules) in COURSES.items():
        model = train(extend(trunk, **modules).train(), tasks, 15)
        folder = root / name
        save(model, byte_tokenizer(), folder, card=model_card(name, "A variant."))
        batch = encode(mixture(tasks, [1], "train", 0, 0, 32), byte_tokenizer())
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        save_grams(capture_grams(model, [inputs]), folder)
        save_file(base, folder / "trunk.safetensors")
        artifact.seal(folder, kind="model", phase="cognate", extra={"variant": name})
    return [root / name for name in COURSES]


def run(output: Path, *arguments: str | Path) -> Manifest:
    assert main(EvoMerge, ["--output", str(output), *SMALL, *map(str, arguments)]) == 0
    return artifact.read(output).manifest


def models(folders: list[Path], name: str = "model") -> list[str]:
    return [word for folder in folders for word in ("--input", f"{name}={folder}")]


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
    found = manifest.extra["population"]
    assert [entry["generation"] for entry in found] == list(range(9))
    best = max(member["fitness"] for member in found[0]["members"])
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


@pytest.fixture(scope="module")
def shared(cognates: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the phase in one process, as one population whose evaluations may be shared out."""
    folder = tmp_path_factory.mktemp("shared") / "champion"
    run(folder, *models(cognates), *SHARED)
    return folder


def worker(index: int, number: int, rounds: int, state: list[str]) -> list[str]:
    """The command line of one worker of two."""
    told = {"index": index, "round": number, "rounds": rounds, "workers": 2}
    return [
        "--step",
        "worker",
        *state,
        *(word for name in told for word in ("--set", f"{name}={told[name]}")),
    ]


def results(folder: Path, number: int) -> list[str]:
    return [word for index in range(2) for word in ("--input", f"results={folder}/results-{number}-{index}")]


def spread(cognates: list[Path], folder: Path, rounds: int, *settings: str) -> Manifest:
    """The pipeline's steps, each with nothing but its inputs: two workers a round; no selection after the last round."""
    parents, state = models(cognates, "models"), list[str]()
    for number in range(rounds):
        for index in range(2):
            place = folder / f"results-{number}-{index}"
            made = run(place, *parents, *worker(index, number, rounds, state), *settings)
            assert made.kind == "population" and not list(place.glob("*.safetensors"))
        found = results(folder, number)
        if number < rounds - 1:
            run(folder / f"state-{number}", "--step", "select", *parents, *found, *settings)
            state = ["--input", f"state={folder}/state-{number}"]
    return run(folder / "champion", *parents, *found, *settings)


def test_workers_that_share_nothing_but_genomes_end_with_the_same_champion(
    alone: Path, cognates: list[Path], tmp_path: Path
) -> None:
    assert spread(cognates, tmp_path, 2).digest == artifact.read(alone).digest


def test_shards_of_one_population_end_with_the_champion_of_one_process_and_a_lost_one_costs_only_itself(
    shared: Path, cognates: list[Path], tmp_path: Path
) -> None:
    champion = spread(cognates, tmp_path, 3, *SHARED)
    alone = artifact.read(shared).manifest
    assert champion.digest == alone.digest
    for name in ("population", "curves", "pareto", "champion", "finalists"):
        assert champion.extra[name] == alone.extra[name]
    assert [entry["generation"] for entry in champion.extra["population"]] == [0, 1, 2, 3]

    state = ["--input", f"state={tmp_path}/state-0"]
    lost, parents = tmp_path / "results-1-1", models(cognates, "models")
    before = artifact.read(lost).digest
    lost.rename(tmp_path / "lost")
    slow = [*SMALL, *parents, *worker(1, 1, 3, state), *SHARED, "evomerge.checkpoint_seconds=0"]
    killing.kill("evomerge", lost, slow, within=0.1, moment=random.Random())
    assert killing.run("evomerge", lost, slow) == before
    again = run(tmp_path / "again", "--step", "select", *parents, *results(tmp_path, 1), *SHARED)
    assert again.digest == artifact.read(tmp_path / "state-1").digest


def test_shards_that_are_missing_or_of_another_round_are_refused(
    shared: Path, cognates: list[Path], tmp_path: Path, capsys: Any
) -> None:
    parents = models(cognates, "models")
    for index in range(2):
        place = tmp_path / f"results-0-{index}"
        run(place, *parents, *worker(index, 0, 3, []), *SHARED)
    [_, first, _, second] = results(tmp_path, 0)
    select = ["--step", "select", *parents, *SHARED]
    said = refused(capsys, tmp_path / "out", *select, "--input", first)
    assert "2 workers" in said and "run the lost ones alone again" in said
    said = refused(capsys, tmp_path / "out", *parents, *SHARED, "--input", second)
    assert "2 workers" in said
    run(tmp_path / "state", *select, "--input", first, "--input", second)
    state = ["--input", f"state={tmp_path}/state"]
    said = refused(capsys, tmp_path / "out", *parents, *worker(0, 2, 3, state), *SHARED)
    assert "lived 1 generations, and this is round 2" in said
    said = refused(
        capsys, tmp_path / "out", *parents, *worker(0, 1, 3, state), *SHARED, "evomerge.population=5"
    )
    assert "does not follow" in said
    said = refused(capsys, tmp_path / "out", *parents, *state, "--input", first, *SHARED)
    assert "beside the results" in said
    said = refused(capsys, tmp_path / "out", "--step", "select", *parents, "--input", first)
    assert "another search" in said and "fan_out" in said


@pytest.mark.parametrize(
    ("told", "means"),
    [
        ({"workers": 2, "rounds": 5}, "3 generations do not fit into 5 rounds"),
        ({"workers": 2, "rounds": 3, "generations": 16}, "16 generations do not fit into 3 rounds"),
        ({"rounds": 3}, "how many share"),
        ({"workers": 2, "rounds": 3, "index": 2}, "worker 2 is none of 2"),
    ],
)
def test_a_fan_out_that_cannot_be_is_refused_before_any_work(
    told: dict[str, int], means: str, cognates: list[Path], tmp_path: Path, capsys: Any
) -> None:
    words = [word for name, value in told.items() for word in ("--set", f"{name}={value}")]
    given = [*models(cognates), "--step", "worker", *words, *SHARED]
    assert means in refused(capsys, tmp_path / "out", *given, code=2)
    if told.get("rounds") == 5:
        said = refused(capsys, tmp_path / "out", *models(cognates), *SHARED, "evomerge.rounds=5", code=2)
        assert means in said


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


def test_foreign_models_without_trunk_and_grams_are_merged_by_what_is_left(tmp_path: Path) -> None:
    base = llama(tmp_path / "base", 0)
    given = [llama(tmp_path / f"llama-{seed}", seed, near=base) for seed in (1, 2)]
    manifest = run(tmp_path / "out", *models(given))
    assert any("RegMean is left out" in text for text in manifest.extra["warnings"])
    assert any("task vectors are left out" in text for text in manifest.extra["warnings"])
    methods = {member["method"] for entry in manifest.extra["population"] for member in entry["members"]}
    assert methods <= {"linear", "slerp", "karcher", "featcal", "frankenmerge", "dfs"}
    model, _ = load(tmp_path / "out")
    assert isinstance(model, LlamaForCausalLM)


def test_a_base_that_is_given_makes_task_vectors_possible(tmp_path: Path) -> None:
    base = llama(tmp_path / "base", 0)
    given = [llama(tmp_path / f"llama-{seed}", seed, near=base) for seed in (1, 2)]
    manifest = run(tmp_path / "out", *models(given), f"evomerge.base={base}", "evomerge.methods=[ties]")
    origins = {member["origin"] for member in manifest.extra["population"][0]["members"]}
    assert {"base", "static ties"} <= origins


def test_parents_of_different_initialisations_are_merged_with_a_warning(tmp_path: Path) -> None:
    tasks = {"copy": 1.0, "next": 1.0, "request": 1.0}
    given = []
    for seed in (1, 2):
        folder = tmp_path / f"stranger-{seed}"
        model = train(build(CognateConfig(**GEOMETRY), seed=seed), tasks, 60)
        save(model, byte_tokenizer(), folder, card="")
        given.append(folder)
    manifest = run(tmp_path / "out", *models(given), "evomerge.generations=0", "evomerge.suites=[efficiency]")
    [connection] = manifest.extra["connectivity"]
    assert connection["barrier"] > 0.05 and not connection["connected"]
    assert any("do not merge" in text for text in manifest.extra["warnings"])


def refused(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str | Path, code: int = 6) -> str:
    assert main(EvoMerge, ["--output", str(output), *SMALL, *map(str, arguments)]) == code
    assert not output.exists()
    return capsys.readouterr().err


def test_one_model_alone_is_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    assert "two or more models" in refused(capsys, tmp_path / "out", *models(cognates[:1]))


@pytest.mark.parametrize(
    ("changes", "meaning"),
    [
        ({"vocab_size": 280}, "vocabularies"),
        ({"hidden_size": 48}, "widths"),
        ({"num_hidden_layers": 3}, "depths"),
    ],
)
def test_models_that_do_not_fit_are_refused_with_the_reason(
    changes: dict[str, int], meaning: str, tmp_path: Path, capsys: Any
) -> None:
    given = [llama(tmp_path / "a", 0), llama(tmp_path / "b", 1, **changes)]
    said = refused(capsys, tmp_path / "out", *models(given))
    assert meaning in said and str(next(iter(changes.values()))) in said


def test_a_cognate_and_a_llama_are_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    said = refused(capsys, tmp_path / "out", *models([cognates[0], llama(tmp_path / "llama", 0)]))
    assert "architectures" in said and "llama" in said


def test_a_state_of_another_search_is_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    run(tmp_path / "results", "--step", "worker", *models(cognates), "evomerge.generations=0")
    state = ["--input", f"state={tmp_path / 'results'}"]
    said = refused(capsys, tmp_path / "out", *models(cognates[::-1]), *state)
    assert "another search" in said and "models" in said
    said = refused(capsys, tmp_path / "out", *models(cognates), *state, "--seed", "1")
    assert "seed" in said


def test_a_selection_without_results_is_refused(cognates: list[Path], tmp_path: Path, capsys: Any) -> None:
    assert "no results" in refused(capsys, tmp_path / "out", "--step", "select", *models(cognates))
