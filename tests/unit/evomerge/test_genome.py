"""Genomes and their space: quantised, canonical, always valid."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evomerge.search.diversity import distance, diversity
from components.evomerge.search.generation_zero import generation_zero
from components.evomerge.search.genome import ALPHA, DENSITY, HOP, LEVELS, SCALE, UNIT, Genome, quantise_row
from components.evomerge.search.space import SearchSpace
from components.evomerge.search.variation import mutate, recombine
from components.shared.merging.registry import merge_method
from tests.unit.evomerge.landscape import EVERYTHING, TENSORWISE

SPACE = SearchSpace(parents=3, groups=3, methods=EVERYTHING, layers=4, repeats=2, deepest=6)
NO_BASE = SearchSpace(parents=2, groups=2, methods=("linear", "slerp", "regmean"), has_base=False)

seeds = st.integers(0, 2**31 - 1)
spaces = st.sampled_from([SPACE, NO_BASE])


def is_valid(genome: Genome, space: SearchSpace) -> bool:
    rows = len(genome.weights) == space.groups and all(len(row) == space.parents for row in genome.weights)
    levels = all(max(row) > 0 and min(row) >= 0 and max(row) <= LEVELS for row in genome.weights)
    scalars = all(
        low <= getattr(genome, name) <= high
        for name, (low, high) in {"density": DENSITY, "alpha": ALPHA}.items()
    )
    scalars &= all(SCALE[0] <= genome.scale(group) <= SCALE[1] for group in range(space.groups))
    hops = all(HOP[0] <= hop <= HOP[1] for hop in genome.hops)
    return rows and levels and scalars and hops and space.allows(genome)


def draw(space: SearchSpace, seed: int, count: int = 1) -> list[Genome]:
    rng = np.random.default_rng(seed)
    return [space.random(rng) for _ in range(count)]


@given(spaces, seeds)
@settings(max_examples=150, deadline=None)
def test_random_mutated_and_recombined_genomes_are_valid_and_canonical(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents = [space.random(rng) for _ in range(3)]
    for genome in (*parents, mutate(parents[0], space, rng), recombine(parents, space, rng)):
        assert is_valid(genome, space)
        assert space.canonical(genome) == genome
        assert Genome.from_json(json.loads(json.dumps(genome.to_json()))) == genome


@given(seeds)
@settings(max_examples=100, deadline=None)
def test_a_mutant_is_another_genome_close_to_its_parent(seed: int) -> None:
    space = replace(SPACE, methods=("ties",))
    rng = np.random.default_rng(seed)
    parent = next(genome for genome in iter(lambda: space.random(rng), None) if genome.method == "ties")
    mutant = mutate(parent, space, rng)
    assert mutant != parent
    far = [distance(parent, space.random(rng)) for _ in range(20)]
    near = [distance(parent, mutate(parent, space, rng)) for _ in range(20)]
    assert np.mean(near) < np.mean(far)


@given(st.lists(st.floats(-1, 5), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_row_of_weights_means_the_same_at_any_scale(weights: list[float]) -> None:
    row = quantise_row(weights)
    assert quantise_row(row) == row
    assert quantise_row([2.0 * value for value in weights]) == row
    assert max(row) > 0


def test_equal_weights_stay_exactly_equal_for_any_number_of_parents() -> None:
    for count in range(1, 12):
        assert quantise_row([1 / count] * count) == (1,) * count


def test_genes_that_the_method_does_not_read_make_no_difference() -> None:
    genome = SPACE.default("linear")
    for change in (
        {"density": 3},
        {"scales": (50, 1, 0)},
        {"alpha": 0},
        {"hops": (UNIT,) * 24, "path": (1,) * 24},
    ):
        assert SPACE.canonical(replace(genome, **change)).hash == SPACE.canonical(genome).hash


def test_recipes_that_come_to_a_parent_or_to_the_base_are_that_parent_or_the_base() -> None:
    only_second = ((0, 7, 0),) * 3
    for method in ("linear", "slerp", "ties", "regmean", "task_arithmetic"):
        assert SPACE.canonical(Genome(method, only_second)) == SPACE.parent(1)
    for method in ("ties", "dare_linear", "nuslerp", "regmean"):
        assert SPACE.canonical(Genome(method, ((1, 2, 3),) * 3, (0, 0, 0))) == SPACE.base()
    kept = Genome("ties", only_second, density=4)
    assert SPACE.canonical(kept).method == "ties"  # trimmed, so it is not the parent


def test_without_a_base_there_is_nothing_to_scale_away_from() -> None:
    genome = Genome("regmean", ((1, 2), (3, 1)), (7, 9))
    assert NO_BASE.canonical(genome).scales == ()


def test_a_dfs_path_without_scaled_jumps_is_a_frankenmerge() -> None:
    path = tuple(int(slot in (0, 1, 6, 7)) for slot in range(24))  # 0.0 0.1 1.2 1.3
    hops = [UNIT] * 24
    hops[1] = 11  # no jump into 0.1, so this is not read
    genome = SPACE.canonical(Genome("dfs", ((1, 1, 1),) * 3, path=path, hops=tuple(hops)))
    assert genome.method == "frankenmerge" and genome.hops == ()
    hops[6] = 15  # the jump from 0.1 to 1.2
    genome = SPACE.canonical(replace(genome, method="dfs", hops=tuple(hops)))
    assert genome.method == "dfs" and genome.hops[6] == 15 and genome.hops[1] == UNIT


def test_a_split_point_mixes_the_lower_groups_one_way_and_the_upper_ones_the_other() -> None:
    space = replace(SPACE, parents=2, groups=4)
    rng = np.random.default_rng(0)
    children = [recombine([space.parent(0), space.parent(1)], space, rng) for _ in range(40)]
    splits = 0
    for child in children:
        shares = [child.shares(group)[0] for group in range(4)]
        near = [abs(share - shares[0]) < 0.08 for share in shares]
        assert all(
            same or abs(share - (1 - shares[0])) < 0.08 for same, share in zip(near, shares, strict=True)
        )
        splits += not all(near)
    assert splits > 10


def test_generation_zero_holds_base_parents_soup_midpoints_and_every_static_method() -> None:
    zero = generation_zero(SPACE)
    origins = [origin for origin, _ in zero]
    assert origins[:4] == ["base", "parent 0", "parent 1", "parent 2"]
    assert {"midpoint 0 1", "midpoint 0 2", "midpoint 1 2", "static linear"} <= set(origins)
    assert {f"static {method}" for method in TENSORWISE} <= set(origins)
    genomes = [genome for _, genome in zero]
    assert len(set(genomes)) == len(genomes)
    assert all(SPACE.canonical(genome) == genome and is_valid(genome, SPACE) for genome in genomes)


def test_generation_zero_without_a_base_has_no_task_vectors() -> None:
    methods = {genome.method for _, genome in generation_zero(NO_BASE)}
    assert not any(merge_method(method).needs_base for method in methods)


def test_diversity_is_none_among_equals_and_whole_among_methods() -> None:
    a, b = SPACE.default("ties"), SPACE.default("linear")
    assert diversity([a, a, a]) == 0.0
    assert diversity([a, b]) == 1.0
    assert distance(SPACE.parent(0), SPACE.parent(1)) == 1.0
    assert diversity([a]) == 0.0


@pytest.mark.parametrize("method", EVERYTHING)
def test_every_method_names_its_genes(method: str) -> None:
    assert merge_method(method).genes <= {"weights", "scales", "density", "alpha", "path", "hops"}
