"""Phase evomerge as one population whose evaluations are shared out: shards lost, killed, and with bad input."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from components.evomerge.evaluation.item_scorer import AnswerScores, ItemScorer
from components.shared.runtime.artifact import artifact
from tests.contract import killing
from tests.contract.in_process import torch_as_before, tracking  # noqa: F401
from tests.contract.phases.evomerge_cases import (
    SMALL,
    models,
    refused,
    results,
    run,
    spread,
    three_cognates,  # noqa: F401
    worker,
)

SHARED = [
    *("evomerge.fan_out=evaluations", "evomerge.rounds=3", "evomerge.generations=3"),
    "evomerge.methods=[linear, slerp, ties, regmean]",
]


@pytest.fixture(scope="module")
def shared(cognates: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the phase in one process, as one population whose evaluations may be shared out."""
    folder = tmp_path_factory.mktemp("shared") / "champion"
    run(folder, *models(cognates), *SHARED)
    return folder


def test_shards_of_one_population_end_with_the_champion_of_one_process_and_a_lost_one_costs_only_itself(
    shared: Path, cognates: list[Path], tmp_path: Path
) -> None:
    champion = spread(cognates, tmp_path, 3, *SHARED)
    single = artifact.read(shared).manifest
    assert champion.digest == single.digest
    for name in ("population", "curves", "pareto", "champion", "finalists"):
        assert champion.extra[name] == single.extra[name]
    assert [entry["generation"] for entry in champion.extra["population"]] == [0, 1, 2, 3]

    state = ["--input", f"state={tmp_path}/state-0"]
    lost, parents = tmp_path / "results-1-1", models(cognates, "input_models")
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
    parents = models(cognates, "input_models")
    for index in range(2):
        output = tmp_path / f"results-0-{index}"
        run(output, *parents, *worker(index, 0, 3, []), *SHARED)
    [_, first, _, second] = results(tmp_path, 0)
    select = ["--step", "select", *parents, *SHARED]
    message = refused(capsys, tmp_path / "out", *select, "--input", first)
    assert "2 workers" in message and "run the lost ones alone again" in message
    message = refused(capsys, tmp_path / "out", *parents, *SHARED, "--input", second)
    assert "2 workers" in message
    run(tmp_path / "state", *select, "--input", first, "--input", second)
    state = ["--input", f"state={tmp_path}/state"]
    message = refused(capsys, tmp_path / "out", *parents, *worker(0, 2, 3, state), *SHARED)
    assert "lived 1 generations, and this is round 2" in message
    message = refused(
        capsys, tmp_path / "out", *parents, *worker(0, 1, 3, state), *SHARED, "evomerge.population=5"
    )
    assert "does not follow" in message
    message = refused(capsys, tmp_path / "out", *parents, *state, "--input", first, *SHARED)
    assert "beside the results" in message
    message = refused(capsys, tmp_path / "out", "--step", "select", *parents, "--input", first)
    assert "another search" in message and "fan_out" in message


def test_no_worker_asks_again_what_the_rival_of_the_race_has_answered(
    cognates: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = models(cognates, "input_models")
    for index in range(2):
        run(tmp_path / f"results-0-{index}", *parents, *worker(index, 0, 3, []), *SHARED)
    run(tmp_path / "state", "--step", "select", *parents, *results(tmp_path, 0), *SHARED)
    races: list[bool] = []
    answers = ItemScorer.answers

    def watched(scorer: ItemScorer, model: Any, rival: AnswerScores | None = None) -> AnswerScores:
        races.append(rival is not None)
        return answers(scorer, model, rival)

    monkeypatch.setattr(ItemScorer, "answers", watched)
    state = ["--input", f"state={tmp_path}/state"]
    run(tmp_path / "results-1-0", *parents, *worker(0, 1, 3, state), *SHARED)
    assert races and all(races)


@pytest.mark.parametrize(
    ("parameters", "means"),
    [
        ({"workers": 2, "rounds": 5}, "3 generations do not fit into 5 rounds"),
        ({"workers": 2, "rounds": 4}, "3 generations do not fit into 4 rounds"),
        ({"rounds": 3}, "how many share"),
        ({"workers": 2, "rounds": 3, "index": 2}, "worker 2 is none of 2"),
    ],
)
def test_a_fan_out_that_cannot_be_is_refused_before_any_work(
    parameters: dict[str, int], means: str, cognates: list[Path], tmp_path: Path, capsys: Any
) -> None:
    words = [word for name, value in parameters.items() for word in ("--set", f"{name}={value}")]
    arguments = [*models(cognates), "--step", "worker", *words, *SHARED]
    assert means in refused(capsys, tmp_path / "out", *arguments, code=2)
    if parameters.get("rounds") == 5:
        message = refused(capsys, tmp_path / "out", *models(cognates), *SHARED, "evomerge.rounds=5", code=2)
        assert means in message
