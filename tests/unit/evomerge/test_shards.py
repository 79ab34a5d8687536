"""One population whose evaluations are shared out: whatever the workers, lost or slow, the population is the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evomerge.evaluation.item_scorer import AnswerScores
from components.evomerge.search.archive import Measurement, Record, lineage
from components.evomerge.search.evolution import EvolutionParameters, elites_of
from components.evomerge.search.generation_zero import generation_zero
from components.evomerge.search.genome import Genome
from components.evomerge.search.population import LINEAGE, POPULATION, Population
from components.evomerge.search.shards import join_shards, measure_shard, rival_answers
from components.evomerge.search.worker import Search
from components.shared.runtime.errors import InputError
from tests.unit.evomerge.landscape import IDENTITY, SPACE, AfterEach, closeness, search

PARAMETERS = EvolutionParameters(size=8, strategy="genetic", collapse=0.02, patience=99)
SHARED = replace(IDENTITY, fan_out="evaluations")
ROUNDS = 4


def one_round(
    folder: Path,
    before: Population | None,
    number: int,
    workers: int,
    parameters: EvolutionParameters = PARAMETERS,
    **options: Any,
) -> list[Population]:
    """The results of all workers, each a process of its own that knows nothing but the state as it was written."""
    results = []
    for index in range(workers):
        worker_search = search(folder / f"{number}-{index}-of-{workers}", identity=SHARED, **options)
        results.append(
            through_a_file(
                measure_shard(worker_search, before, parameters, round=number, index=index, workers=workers),
                folder / "result",
            )
        )
    return results


def through_a_file(population: Population, folder: Path) -> Population:
    folder.mkdir(parents=True, exist_ok=True)
    population.write(folder)
    return Population.read(folder)


def whole(
    folder: Path,
    workers: int,
    parameters: EvolutionParameters = PARAMETERS,
    rounds: int = ROUNDS,
    **options: Any,
) -> Population:
    population: Population | None = None
    for number in range(rounds):
        population = join_shards(one_round(folder, population, number, workers, parameters, **options)[::-1])
    assert population is not None
    return population


def text(population: Population, folder: Path) -> str:
    """All that a state says, as its files do."""
    through_a_file(population, folder)
    return (folder / POPULATION).read_text() + (folder / LINEAGE).read_text()


@pytest.mark.parametrize("strategy", ["genetic", "catcma"])
@pytest.mark.parametrize("collapse", [0.02, 0.6])
def test_however_many_workers_share_a_population_it_is_the_same(
    tmp_path: Path, strategy: str, collapse: float
) -> None:
    parameters = replace(PARAMETERS, strategy=strategy, collapse=collapse)
    alone = whole(tmp_path, 1, parameters)
    assert any(entry["restarted"] for entry in alone.history) == (collapse == 0.6)
    for workers in (3, 11):
        assert text(whole(tmp_path, workers, parameters), tmp_path) == text(alone, tmp_path)


def test_the_first_round_shares_out_generation_zero_and_the_first_children(tmp_path: Path) -> None:
    results = one_round(tmp_path, None, 0, 4)
    zero = {genome.hash for _, genome in generation_zero(SPACE)}
    counts = [len(result.archive) for result in results]
    assert sum(counts) == len(zero) + 8 and max(counts) == math.ceil(sum(counts) / 4)
    population = join_shards(results)
    assert [entry["generation"] for entry in population.history] == [0, 1]
    assert set(population.history[0]["members"]) == zero
    blind = [record for record in population.archive if record.provenance.generation == 1]
    assert len(blind) == 8 and all(set(record.provenance.parents) <= zero for record in blind)
    assert (
        len({record.provenance.parents for record in blind}) == 8
    )  # no genome of generation 0 twice before all once


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_a_round_is_one_generation_and_no_worker_measures_more_than_its_share(
    tmp_path: Path, workers: int
) -> None:
    state = join_shards(one_round(tmp_path, None, 0, workers))
    for number in range(1, ROUNDS):
        results = one_round(tmp_path, state, number, workers)
        new = [len(result.archive) - len(state.archive) for result in results]
        assert max(new) <= math.ceil(8 / workers)
        state = join_shards(results)
        assert state.generation == number + 1 == state.history[-1]["generation"]


def test_a_lost_shard_is_measured_again_alone_and_the_state_is_the_same(tmp_path: Path) -> None:
    state = join_shards(one_round(tmp_path, None, 0, 3))
    results = one_round(tmp_path, state, 1, 3)
    expected = text(join_shards(results), tmp_path)
    with pytest.raises(InputError, match="3 workers") as refused:
        join_shards([results[0], results[2]])
    assert "shards 0, 2" in str(refused.value)
    merged_genomes: list[str] = []

    def counting(genome: Genome) -> Measurement:
        merged_genomes.append(genome.hash)
        return closeness(genome)

    again = measure_shard(
        search(tmp_path / "again", counting, identity=SHARED), state, PARAMETERS, round=1, index=1, workers=3
    )
    assert len(merged_genomes) == len(results[1].archive) - len(state.archive) <= 3
    assert text(join_shards([results[2], again, results[0]]), tmp_path) == expected


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_worker_killed_in_its_shard_goes_on_from_what_it_has_measured(tmp_path: Path, after: int) -> None:
    state = join_shards(one_round(tmp_path, None, 0, 2))
    expected = one_round(tmp_path, state, 1, 2)[1]
    done: list[str] = []

    def dies(genome: Genome) -> Measurement:
        if len(done) == after:
            raise Killed
        done.append(genome.hash)
        return closeness(genome)

    def work(worker_search: Search) -> Population:
        return measure_shard(worker_search, state, PARAMETERS, round=1, index=1, workers=2)

    with pytest.raises(Killed):
        work(search(tmp_path / "killed", dies, AfterEach, SHARED))
    again: list[str] = []

    def counting(genome: Genome) -> Measurement:
        again.append(genome.hash)
        return closeness(genome)

    resumed = work(search(tmp_path / "killed", counting, identity=SHARED))
    assert text(resumed, tmp_path) == text(expected, tmp_path)
    assert not set(again) & set(done) and len(again) + after == len(expected.archive) - len(state.archive)


@pytest.mark.parametrize("strategy", ["genetic", "catcma"])
def test_the_shared_search_climbs_and_is_never_worse_than_generation_zero(
    tmp_path: Path, strategy: str
) -> None:
    population = whole(tmp_path, 2, replace(PARAMETERS, strategy=strategy), rounds=12)
    zero = max(r.fitness or 0 for r in population.archive if r.provenance.generation == 0)
    assert (population.archive.best().fitness or 0) > zero + 0.02
    if strategy == "catcma":
        assert {r.provenance.origin for r in population.archive if r.provenance.generation > 1} == {"catcma"}


def test_catcma_goes_on_where_it_was_and_does_not_start_anew_in_every_round(tmp_path: Path) -> None:
    parameters = replace(PARAMETERS, strategy="catcma", collapse=0.0)
    population = whole(tmp_path, 2, parameters, rounds=6)
    starts = {r.provenance.parents for r in population.archive if r.provenance.origin == "catcma"}
    assert len(starts) == 1  # the genome around which its first distribution lies


def test_after_a_plateau_later_rounds_measure_nothing(tmp_path: Path) -> None:
    parameters = replace(PARAMETERS, patience=2)
    flat = {"evaluate": lambda genome: Measurement(0.5)}
    state = whole(tmp_path, 2, parameters, rounds=3, **flat)
    assert state.generation == 3
    after = join_shards(one_round(tmp_path, state, 3, 2, parameters, **flat))
    assert text(after, tmp_path) == text(state, tmp_path)
    assert text(whole(tmp_path, 2, parameters, rounds=6, **flat), tmp_path) == text(state, tmp_path)


def test_children_race_with_the_last_elite_of_the_whole_population(tmp_path: Path) -> None:
    state = join_shards(one_round(tmp_path, None, 0, 2))
    rivals_seen: list[Genome | None] = []
    for index in range(2):
        worker_search = search(tmp_path / f"race-{index}", identity=SHARED)

        def watching(genome: Genome, rival: Genome | None) -> Measurement:
            rivals_seen.append(rival)
            return closeness(genome)

        worker_search.evaluate = watching
        measure_shard(worker_search, state, PARAMETERS, round=1, index=index, workers=2)
    assert set(rivals_seen) == {state.archive[state.islands[0][elites_of(8) - 1]].genome}


def test_what_the_elites_answer_travels_with_them_and_nothing_else_does(tmp_path: Path) -> None:
    def answers(record: Record) -> dict[str, list[float]]:
        return {"nll": [record.fitness or 0.0]}

    state: Population | None = None
    for number in range(3):
        results = one_round(tmp_path, state, number, 3)
        for result in results:
            result.answers = rival_answers(state, result, answers)
            assert len(result.answers) <= elites_of(8) + (len(state.answers) if state else 0)
        state = join_shards(results)
        elites = state.islands[0][: elites_of(8)]
        assert state.answers == {elite: answers(state.archive[elite]) for elite in elites}
        state = through_a_file(state, tmp_path / "state")


def test_answers_survive_as_json_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    answers = AnswerScores(np.arange(5), rng.random(5) > 0.5, rng.random(5), rng.integers(1, 9, 5))
    population = AnswerScores.from_json(answers.to_json())
    for name in ("positions", "right", "nll", "tokens"):
        ours, theirs = getattr(answers, name), getattr(population, name)
        assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


def test_a_state_that_other_settings_would_have_led_to_is_refused(tmp_path: Path) -> None:
    state = whole(tmp_path, 2, rounds=3)
    worker_search = search(tmp_path / "other", identity=SHARED)
    for other in (
        replace(PARAMETERS, size=6),
        replace(PARAMETERS, strategy="catcma"),
        replace(PARAMETERS, collapse=1.0),
    ):
        with pytest.raises(InputError, match="does not follow"):
            measure_shard(worker_search, state, other, round=3, index=0, workers=2)


def test_a_state_of_another_round_is_refused_and_so_is_none_at_all(tmp_path: Path) -> None:
    state = whole(tmp_path, 2, rounds=2)
    worker_search = search(tmp_path / "other", identity=SHARED)
    for before, number in ((state, 3), (state, 1), (None, 1)):
        with pytest.raises(InputError, match=f"this is round {number}"):
            measure_shard(worker_search, before, PARAMETERS, round=number, index=0, workers=2)


def test_only_the_shards_of_one_generation_each_once_make_a_state(tmp_path: Path) -> None:
    first = one_round(tmp_path, None, 0, 2)
    state = join_shards(first)
    second = one_round(tmp_path, state, 1, 2)
    with pytest.raises(InputError, match="different generations"):
        join_shards([first[0], second[1]])
    with pytest.raises(InputError, match="each once"):
        join_shards([first[0], first[0]])
    with pytest.raises(InputError, match="each once"):
        join_shards([*first, first[1]])
    with pytest.raises(InputError, match="no shard"):
        join_shards([first[0], state])
    with pytest.raises(InputError, match="no shard"):
        join_shards([state])
    with pytest.raises(InputError, match="seed"):
        join_shards([first[0], replace(first[1], identity=replace(SHARED, seed=1))])


def test_a_shared_and_an_islands_population_are_of_different_searches(tmp_path: Path) -> None:
    assert SHARED.differences(IDENTITY) == ["fan_out"]


def test_the_lineage_says_of_every_genome_when_and_out_of_what_it_was_bred(tmp_path: Path) -> None:
    population = whole(tmp_path, 3)
    known: set[str] = set()
    for record in population.archive:
        assert record.provenance.worker == 0 and record.provenance.round == max(
            0, record.provenance.generation - 1
        )
        assert set(record.provenance.parents) <= known
        known.add(record.hash)
    assert lineage(population.archive).count("\n") == len(population.archive)
