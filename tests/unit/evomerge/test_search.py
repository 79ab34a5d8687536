"""The search itself, on a landscape that is known: archive, strategies, islands, restart, resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.evomerge.search.archive import (
    Archive,
    Measurement,
    Provenance,
    Record,
    from_lineage,
    lineage,
    ranked,
)
from components.evomerge.search.catcma import CatCmaStrategy
from components.evomerge.search.evolution import (
    EvolutionParameters,
    elites_of,
    evolve,
    genetic,
    next_children,
    survivors,
)
from components.evomerge.search.genome import Genome
from components.evomerge.search.history import since_best
from components.evomerge.search.population import Population, join_islands, migrate
from components.evomerge.search.worker import Search
from components.shared.runtime.errors import InputError
from tests.unit.evomerge.landscape import IDENTITY, SPACE, AfterEach, closeness, search


def evolve_island(
    island_search: Search, population: Population, worker: int = 0, round: int = 0, **changes
) -> Population:
    generations = changes.pop("generations", 5)
    options = {"size": 8, "strategy": "genetic", "collapse": 0.02, "patience": 99} | changes
    parameters = EvolutionParameters(**options)
    return island_search.evolve_island(
        population, worker=worker, round=round, generations=generations, parameters=parameters
    )


def record(fitness: float | None, name: str = "linear", loss: float = 0.0, **scores: float) -> Record:
    weights = ((1, int(100 * (fitness or 0)) % 12, len(name)),) * 2
    return Record(Genome(name, weights), Provenance("test"), Measurement(fitness, scores, loss))


def test_failures_rank_last_and_the_loss_decides_between_equals() -> None:
    failed, low, high, sure = record(None), record(0.2), record(0.5, loss=2.0), record(0.5, "ties", loss=1.0)
    assert ranked([failed, high, low, sure]) == [sure, high, low, failed]


def test_the_archive_keeps_the_first_record_of_a_genome() -> None:
    first = record(0.5)
    again = Record(first.genome, Provenance("later"), first.measurement)
    archive = Archive([first, again])
    assert len(archive) == 1 and archive.add(again) is first


def test_the_pareto_front_holds_what_no_other_covers() -> None:
    a, b = record(0.5, "a", x=1.0, y=0.0), record(0.6, "bb", x=0.2, y=1.0)
    covered, failed = record(0.1, "ccc", x=0.1, y=0.9), record(None, "dddd")
    assert Archive([a, b, covered, failed]).pareto() == [b, a]


def test_the_lineage_is_one_json_line_a_record_and_reads_back() -> None:
    records = [record(0.25, x=0.5), record(None, "ties")]
    text = lineage(records)
    assert [json.loads(line)["genome"] for line in text.splitlines()] == [
        island_search.hash for island_search in records
    ]
    assert from_lineage(text) == records


def test_of_eight_six_children_are_mutants_of_the_two_elites_and_two_recombine_three_losers_each() -> None:
    rng = np.random.default_rng(0)
    population = ranked(
        Record(g, Provenance("x"), closeness(g)) for g in (SPACE.random(rng) for _ in range(8))
    )
    children = next_children(population, SPACE, rng)
    mutants = [child for child in children if child.origin == "mutation"]
    crossed = [child for child in children if child.origin == "recombination"]
    assert len(mutants) == 6 and {child.parents for child in mutants} == {(r.hash,) for r in population[:2]}
    assert len(crossed) == 2 and all(len(child.parents) == 3 for child in crossed)
    assert {p for child in crossed for p in child.parents} == {r.hash for r in population[2:]}
    assert elites_of(2) == 1


def test_elites_survive_worse_children() -> None:
    old = [record(0.9), record(0.8, "ties"), record(0.1, "a"), record(0.05, "bb")]
    new = [record(0.3, "ccc"), record(0.2, "dddd"), record(0.15, "eeeee"), record(0.12, "ffffff")]
    assert survivors(old, new, 4) == [old[0], *new[:3]]


@pytest.mark.parametrize("strategy", ["genetic", "catcma"])
def test_evolution_climbs_and_beats_as_many_random_draws(tmp_path: Path, strategy: str) -> None:
    searched, drawn = [], []
    for seed in range(4):
        island_search = search(tmp_path / str(seed))
        island_search.random = lambda name, seed=seed: np.random.default_rng([seed, *name.encode()])
        start = island_search.start()
        end = evolve_island(island_search, start, generations=20, strategy=strategy)
        rng = np.random.default_rng(seed)
        drawn.append(max(closeness(SPACE.random(rng)).fitness or 0 for _ in range(len(end.archive))))
        searched.append(end.archive.best().fitness or 0)
        assert searched[-1] > (start.archive.best().fitness or 0) + 0.02
    assert np.mean(searched) > np.mean(drawn)


def test_the_champion_is_never_worse_than_generation_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    luck: dict[str, float] = {}

    def noise(genome: Genome) -> Measurement:
        return Measurement(luck.setdefault(genome.hash, float(rng.random())))

    island_search = search(tmp_path, noise)
    start = island_search.start()
    end = evolve_island(island_search, start)
    assert (end.archive.best().fitness or 0) >= max(r.fitness or 0 for r in start.archive)


def test_a_population_that_has_collapsed_keeps_its_champion_and_is_drawn_anew() -> None:
    rng = np.random.default_rng(0)
    genome = SPACE.random(rng)
    same = [Record(genome, Provenance("x"), closeness(genome))] * 6
    births: list[str] = []

    def measure(genome: Genome, provenance: Provenance, rival: Genome | None) -> Record:
        assert rival is None
        births.append(provenance.origin)
        return Record(genome, provenance, closeness(genome))

    options = {"space": SPACE, "strategy": genetic(SPACE), "measure": measure, "provenance": Provenance("")}
    [after] = evolve(same, 1, random=lambda step: np.random.default_rng(step), collapse=0.05, **options)
    assert after.restarted and births == ["immigrant"] * 5
    assert after.diversity > 0.3
    assert after.population[0].measurement.rank >= same[0].measurement.rank


def test_a_failed_merge_is_tried_twice_ranks_last_and_is_recorded(tmp_path: Path) -> None:
    tried: list[str] = []

    def fails_on_slerp(genome: Genome) -> Measurement:
        if genome.method == "slerp":
            tried.append(genome.hash)
            raise RuntimeError("out of memory")
        return closeness(genome)

    population = search(tmp_path, fails_on_slerp).start()
    last = population.archive.ranked()[-1]
    assert last.genome.method == "slerp" and last.fitness is None
    assert last.measurement.error == "RuntimeError: out of memory"
    assert tried.count(last.hash) == 2


def test_a_failure_that_passes_is_measured_at_the_second_attempt(tmp_path: Path) -> None:
    seen: set[str] = set()

    def fails_once(genome: Genome) -> Measurement:
        if genome.hash not in seen:
            seen.add(genome.hash)
            raise MemoryError
        return closeness(genome)

    assert all(r.fitness is not None for r in search(tmp_path, fails_once).start().archive)


def test_no_genome_is_evaluated_twice(tmp_path: Path) -> None:
    count: dict[str, int] = {}

    def counting(genome: Genome) -> Measurement:
        count[genome.hash] = count.get(genome.hash, 0) + 1
        return closeness(genome)

    island_search = search(tmp_path, counting)
    evolve_island(island_search, island_search.start(), generations=10)
    assert max(count.values()) == 1


class Killed(BaseException):
    pass


@pytest.mark.parametrize("strategy", ["genetic", "catcma"])
@pytest.mark.parametrize("after", [3, 17, 40])
def test_a_search_killed_anywhere_ends_with_the_identical_population(
    tmp_path: Path, after: int, strategy: str
) -> None:
    def whole(island_search: Search) -> Population:
        return evolve_island(island_search, island_search.start(), generations=6, strategy=strategy)

    expected = whole(search(tmp_path / "undisturbed"))
    done = 0

    def dies(genome: Genome) -> Measurement:
        nonlocal done
        done += 1
        if done > after:
            raise Killed
        return closeness(genome)

    with pytest.raises(Killed):
        whole(search(tmp_path / "killed", dies, AfterEach))
    again: list[str] = []

    def counting(genome: Genome) -> Measurement:
        again.append(genome.hash)
        return closeness(genome)

    resumed = whole(search(tmp_path / "killed", counting))
    assert lineage(resumed.archive) == lineage(expected.archive)
    assert resumed.islands == expected.islands and resumed.history == expected.history
    assert len(again) == len(expected.archive) - after  # what was measured before is not measured again


def test_workers_in_processes_of_their_own_find_what_one_process_finds(tmp_path: Path) -> None:
    alone = search(tmp_path / "alone")
    population = alone.start()
    for number in range(2):
        population = join_islands(
            [evolve_island(alone, population, worker, number, generations=3) for worker in range(2)]
        )

    spread: Population | None = None
    for number in range(2):
        results = []
        for worker in range(2):
            island_search = search(tmp_path / f"{number}-{worker}")
            if spread is None:
                before = island_search.start()
            else:
                before = spread
            result = evolve_island(island_search, before, worker, number, generations=3)
            folder = tmp_path / f"result-{number}-{worker}"
            folder.mkdir()
            result.write(folder)
            results.append(Population.read(folder))
        spread = join_islands(results[::-1])
    assert spread is not None
    assert lineage(spread.archive) == lineage(population.archive)
    assert spread.islands == population.islands and spread.history == population.history


def test_champions_migrate_around_the_ring() -> None:
    records = [record(0.1 * i, "m" * i) for i in range(1, 7)]
    low1, low2, low3, high1, high2, high3 = (island_search.hash for island_search in records)
    after = migrate({0: [low3, low2, low1], 1: [high3, high2, high1]}, Archive(records))
    assert after == {0: [high3, low3, low2], 1: [high3, high2, low3]}
    assert migrate({0: [low1, low2]}, Archive(records)) == {0: [low2, low1]}


def test_results_of_different_searches_are_not_joined(tmp_path: Path) -> None:
    island_search = search(tmp_path).start()
    other = Population(replace(IDENTITY, seed=1), Archive())
    with pytest.raises(InputError, match="seed"):
        join_islands([island_search, other])


def test_what_is_no_population_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no population"):
        Population.read(tmp_path)


def test_catcma_asks_for_canonical_genomes_of_several_methods_and_again_for_the_same() -> None:
    rng = np.random.default_rng(0)
    population = [Record(g, Provenance("x"), closeness(g)) for g in (SPACE.random(rng) for _ in range(4))]
    children = CatCmaStrategy(SPACE, 6, seed=1)(ranked(population), [], rng)
    assert len(children) == 6 and len({child.genome.method for child in children}) > 1
    assert all(SPACE.canonical(child.genome) == child.genome for child in children)
    again = CatCmaStrategy(SPACE, 6, seed=1)(ranked(population), [], rng)
    assert [child.genome for child in again] == [child.genome for child in children]


@pytest.mark.parametrize("size", [2, 3])
def test_catcma_lives_with_the_smallest_populations_and_with_a_single_method(
    tmp_path: Path, size: int
) -> None:
    island_search = search(tmp_path)
    island_search.space = replace(SPACE, methods=("linear",))
    population = evolve_island(
        island_search, island_search.start(), generations=4, size=size, strategy="catcma"
    )
    assert {
        record.genome.method for record in population.archive if record.provenance.origin == "catcma"
    } <= {
        "linear",
        "task_arithmetic",  # the base
    }


def test_a_plateau_ends_the_round_early_and_an_improvement_starts_the_count_again(tmp_path: Path) -> None:
    rising = iter(range(10**6))
    flat = evolve_island(
        search(tmp_path / "a", lambda g: Measurement(0.5)),
        search(tmp_path / "b").start(),
        generations=9,
        patience=3,
    )
    assert flat.generation < 9 and len(flat.history) - 1 == flat.generation
    island_search = search(tmp_path / "c", lambda g: Measurement(float(next(rising))))
    assert evolve_island(island_search, island_search.start(), generations=9, patience=3).generation == 9
    entries = [
        {"worker": worker, "generation": number, "best": best}
        for worker, number, best in [
            (0, 0, 9.0),
            (1, 1, 0.3),
            (1, 2, 0.4),
            (0, 1, 0.9),
            (1, 3, 0.4),
            (1, 4, 0.4),
        ]
    ]
    assert since_best(entries, 1) == 2 and since_best(entries, 0) == 0 and since_best(entries, 7) == 0


def test_who_left_a_race_ranks_below_who_did_not_and_is_on_no_front_and_in_no_best() -> None:
    whole = record(0.2, x=0.5)
    left = Record(record(0.9, "ties").genome, Provenance("x"), Measurement(0.9, {"x": 1.0}, seen=0.25))
    further = Record(record(0.8, "a").genome, Provenance("x"), Measurement(0.1, {"x": 1.0}, seen=0.5))
    failed = record(None, "bb")
    assert ranked([failed, left, further, whole]) == [whole, further, left, failed]
    assert Archive([left, further, whole]).pareto() == [whole]
    assert from_lineage(lineage([left])) == [left]


def test_children_race_with_the_last_elite(tmp_path: Path) -> None:
    rivals: list[Genome | None] = []

    def watching(genome: Genome, rival: Genome | None) -> Measurement:
        rivals.append(rival)
        return closeness(genome)

    island_search = search(tmp_path)
    island_search.evaluate = watching
    population = island_search.start()
    assert set(rivals) == {None}
    rivals.clear()
    second = population.archive.ranked()[1]
    evolve_island(island_search, population, generations=1)
    assert set(rivals) == {second.genome}
