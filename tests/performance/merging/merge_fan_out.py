"""Islands, or the evaluations of one population shared out? Digits, a small network, minutes of one core.

    python tests/performance/merging/merge_fan_out.py --seeds 10
    python tests/performance/merging/merge_fan_out.py --seeds 10 --methods plain  # without RegMean and FeatCal

digit_parents.py says what is merged. Every arm measures about 400 genomes on the search split; its best is scored on the
test split once. Islands (8 members each) live four rounds; one population lives as many rounds as it has generations: four
large ones, or many of 8 children. What a fan-out costs in time is modelled, not measured: the evaluations on the longest
chain of pods, round after round that of the worker with the most to measure. Beside that a chain has two pods a round (a
worker and a selection), which start, load the parents and end.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from digit_parents import ALL_METHODS, Arena

from components.evomerge.search.archive import Archive
from components.evomerge.search.evolution import EvolutionParameters
from components.evomerge.search.generation_zero import generation_zero
from components.evomerge.search.population import Population, SearchIdentity, join_islands
from components.evomerge.search.shards import join_shards, measure_shard
from components.evomerge.search.worker import Search
from components.shared.evaluation.statistics import paired_interval
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking.progress import Progress

EVALUATIONS = 400
WORKERS = (2, 4, 8)
ROUNDS = 4
MEMBERS = 8  # of an island, and of the small population
COLLAPSE, PATIENCE = 0.02, 1000
METHODS = {
    "all": ALL_METHODS,
    "plain": tuple(name for name in ALL_METHODS if name not in ("regmean", "featcal")),
}


@dataclass(frozen=True)
class Outcome:
    """right: of each test image. used: genomes that were measured. spent: with those that several workers measured.
    chains: workers → evaluations on the longest chain of pods.
    """

    right: np.ndarray
    used: int
    spent: int
    rounds: int
    chains: dict[int, int]


def search_of(arena: Arena, methods: str, folder: str) -> Search:
    return Search(
        replace(arena.space, methods=METHODS[methods]),
        SearchIdentity(("digits",), arena.seed, ("digits",), 0, "likelihood", 0),
        lambda genome, rival: arena.measure(genome, "likelihood"),
        random=lambda name: np.random.default_rng([arena.seed, *name.encode()]),
        checkpoints=Checkpoints(folder, "0" * 64, every=1e9),
        progress=Progress("digits", stream=open("/dev/null", "w")),
    )


def chosen(arena: Arena, archive: Archive) -> np.ndarray:
    return arena.test(arena.merge(archive.best().genome))


def islands(arena: Arena, methods: str, workers: int) -> Outcome:
    """An island a worker. In the first round each measures generation 0 for itself."""
    with tempfile.TemporaryDirectory() as folder:
        search = search_of(arena, methods, folder)
        population = search.start()
        zero = len(population.archive)
        generations = max(ROUNDS, round((EVALUATIONS - zero) / (MEMBERS * workers)))
        for number in range(ROUNDS):
            results = [
                search.evolve_island(
                    population, worker=worker, round=number,
                    generations=generations // ROUNDS + (number < generations % ROUNDS),
                    parameters=EvolutionParameters(MEMBERS, "genetic", COLLAPSE, PATIENCE),
                )
                for worker in range(workers)
            ]  # fmt: skip
            population = join_islands(results)
    measured = Counter(
        (round, worker) for round, worker, genome in search.measured if (round, worker) != (0, 0)
    )
    first = [genome for round, worker, genome in search.measured if (round, worker) == (0, 0)]
    measured[0, 0] = len(first) - zero  # generation 0 has the births of round 0 and worker 0
    longest = sum(max(measured[number, worker] for worker in range(workers)) for number in range(ROUNDS))
    spent = workers * zero + sum(measured.values())
    chain = {workers: zero + longest}
    return Outcome(chosen(arena, population.archive), len(population.archive), spent, ROUNDS, chain)


def shared(arena: Arena, methods: str, rounds: int | None, strategy: str = "genetic") -> Outcome:
    """One population, whatever the number of workers: of as many rounds, or of 8 members and as many rounds as it takes."""
    zero = len(generation_zero(replace(arena.space, methods=METHODS[methods])))
    size = MEMBERS if rounds is None else EVALUATIONS // (rounds + 1)  # generation 0 is filled up to the size
    rounds = rounds or round((EVALUATIONS - zero) / MEMBERS)
    parameters = EvolutionParameters(size=size, strategy=strategy, collapse=COLLAPSE, patience=PATIENCE)
    population: Population | None = None
    new = []
    with tempfile.TemporaryDirectory() as folder:
        search = search_of(arena, methods, folder)
        for number in range(rounds):
            before = len(population.archive) if population else 0
            population = join_shards(
                [measure_shard(search, population, parameters, round=number, index=0, workers=1)]
            )
            new.append(len(population.archive) - before)
    assert population is not None
    chains = {workers: sum(-(-count // workers) for count in new) for workers in WORKERS}
    used = len(population.archive)
    return Outcome(chosen(arena, population.archive), used, used, rounds, chains)


ARMS: dict[str, Callable[[Arena, str], Outcome]] = {
    **{
        f"{workers} islands of {MEMBERS}": lambda arena, methods, workers=workers: islands(
            arena, methods, workers
        )
        for workers in WORKERS
    },
    "one population, as many rounds": lambda arena, methods: shared(arena, methods, ROUNDS),
    "one population of 8": lambda arena, methods: shared(arena, methods, None),
    "one population of 8, CatCMA": lambda arena, methods: shared(arena, methods, None, "catcma"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", choices=list(METHODS), default="all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in ARMS}
    for seed in range(options.seeds):
        arena = Arena(seed)
        for name, arm in ARMS.items():
            outcomes[name].append(arm(arena, options.methods))
    heads = [f"chain, {workers} workers" for workers in WORKERS]
    print(f"test accuracy over {options.seeds} seeds, methods: {options.methods}")
    print(f"| arm | genomes | evaluations | rounds | mean | min – max | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, all_of in outcomes.items():
        scores = [outcome.right.mean() for outcome in all_of]
        row = [name, *(f"{np.mean([getattr(one, key) for one in all_of]):.0f}" for key in ("used", "spent"))]
        row.append(str(all_of[0].rounds))
        row += [f"{np.mean(scores):.3f}", f"{min(scores):.3f} – {max(scores):.3f}"]
        for workers in WORKERS:
            chains = [outcome.chains[workers] for outcome in all_of if workers in outcome.chains]
            row.append(f"{np.mean(chains):.0f}" if chains else "–")
        print(f"| {' | '.join(row)} |")
    print()
    for name in list(ARMS)[len(WORKERS) :]:
        for workers in WORKERS:
            other = f"{workers} islands of {MEMBERS}"
            pairs = [
                paired_interval(a.right, b.right)
                for a, b in zip(outcomes[name], outcomes[other], strict=True)
            ]
            above = sum(pair[1] > 0 for pair in pairs)
            below = sum(pair[2] < 0 for pair in pairs)
            mean = np.mean([pair[0] for pair in pairs])
            print(f"{name} against {other}: {mean:+.4f}; surely above in {above} seeds, below in {below}")


if __name__ == "__main__":
    main()
