"""What matters in evolutionary merging: the operator or the optimiser? Digits, a small network, minutes of one core.

    python tests/performance/merging/merge_search.py --seeds 10
    python tests/performance/merging/merge_search.py --seeds 10 --tasks classes       parents that share no class: a control

digit_parents.py says what is merged. Every arm may look at the search split up to 400 times; what it chose is scored on
the test split once. RegMean and FeatCal need the unlabelled training images, as Gram matrices of each parent and as
images. Joint training, which needs all data and all labels in one place, is the bound; parents from initialisations of
their own are the negative control. Two arms are compared on the same test images, seed by seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from cmaes import CMA
from digit_parents import ALL_METHODS, TASKS, WIDTHS, Arena, State

from components.evomerge.evaluation.item_scorer import Fitness
from components.evomerge.search.archive import Archive
from components.evomerge.search.evolution import EvolutionParameters
from components.evomerge.search.generation_zero import generation_zero, static
from components.evomerge.search.genome import UNIT, Genome
from components.evomerge.search.population import SearchIdentity, join_islands
from components.evomerge.search.worker import Search
from components.shared.evaluation.statistics import paired_interval
from components.shared.merging.methods.averages.linear import linear
from components.shared.merging.methods.task_vectors.task_arithmetic import task_arithmetic
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking.progress import Progress

EVALUATIONS = 400
NO_REGRESSION = tuple(name for name in ALL_METHODS if name not in ("regmean", "featcal"))
NO_CALIBRATION = tuple(name for name in ALL_METHODS if name != "featcal")
Chosen = tuple[State, int]
"""What an arm chose, and how often it looked at the search split."""


def best(arena: Arena, genomes: list[Genome]) -> Chosen:
    """The one that is best on the search split, the first of equals."""
    chosen = max(genomes, key=lambda genome: arena.measure(genome).fitness or 0.0)
    return arena.merge(chosen), len(genomes)


def evolve(
    arena: Arena, methods: tuple[str, ...], strategies: tuple[str, ...], fitness: Fitness = "accuracy"
) -> Chosen:
    """The phase's own search, an island for each strategy, until the evaluations are used up."""
    space = replace(arena.space, methods=methods)
    identity = SearchIdentity(("digits",), arena.seed, ("digits",), 0, fitness, 0)
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            space,
            identity,
            lambda genome, rival: arena.measure(genome, fitness),
            random=lambda name: np.random.default_rng([arena.seed, *name.encode()]),
            checkpoints=Checkpoints(folder, "0" * 64, every=1e9),
            progress=Progress("digits", stream=open("/dev/null", "w")),  # noqa: SIM115
        )
        population, number = search.start(), 0
        while len(search.measured) < EVALUATIONS:
            population = join_islands(
                [
                    search.evolve_island(
                        population,
                        worker=i,
                        round=number,
                        generations=5,
                        parameters=EvolutionParameters(8, strategy, collapse=0.02, patience=1000),
                    )
                    for i, strategy in enumerate(strategies)
                ]
            )
            number += 1
    within = Archive(list(population.archive)[:EVALUATIONS])
    return arena.merge(within.best().genome), len(within)


def random_search(arena: Arena) -> Chosen:
    rng = np.random.default_rng(arena.seed)
    space = replace(arena.space, methods=NO_REGRESSION)
    return best(arena, [space.random(rng) for _ in range(EVALUATIONS)])


def cma_es(arena: Arena) -> Chosen:
    """λ of every layer and parent, without bounds: 12 numbers, as in Sakana's parameter space."""
    names = [f"layers.{i}.{kind}" for i in range(len(WIDTHS) - 1) for kind in ("weight", "bias")]
    models = arena.models
    assert models.base is not None
    base = models.base

    def build(vector: np.ndarray) -> State:
        weights = vector.reshape(len(WIDTHS) - 1, TASKS).tolist()
        return {
            name: task_arithmetic(
                base[name], [p[name] for p in models.parents], weights[int(name.split(".")[1])], 1.0
            )
            for name in names
        }

    optimizer = CMA(np.full(12, 1 / 3), 0.2, seed=arena.seed)
    top, chosen, used = -1.0, np.full(12, 1 / 3), 0
    while used + optimizer.population_size <= EVALUATIONS:
        evaluated = []
        for _ in range(optimizer.population_size):
            vector = optimizer.ask()
            score = arena.search_score(build(vector))
            evaluated.append((vector, -score))
            used += 1
            if score > top:
                top, chosen = score, vector
        optimizer.tell(evaluated)
    return build(chosen), used


def statics(arena: Arena, methods: tuple[str, ...]) -> Chosen:
    space = replace(arena.space, methods=methods)
    zero = [genome for origin, genome in generation_zero(space) if origin.startswith(("static", "midpoint"))]
    if "regmean" in methods:
        zero += [replace(static("regmean", space), alpha=alpha) for alpha in (10, 14, 16, UNIT)]
    if "featcal" in methods:
        zero += [replace(static("featcal", space), alpha=alpha) for alpha in (0, 10)]
    return best(arena, zero)


def strangers(arena: Arena) -> Chosen:
    states = arena.strangers
    return {name: linear([state[name] for state in states], [1 / TASKS] * TASKS) for name in states[0]}, 0


def of(method: str, alpha: int) -> Callable[[Arena], Chosen]:
    return lambda arena: (arena.merge(replace(static(method, arena.space), alpha=alpha)), 0)


CMA_ARM = "CMA-ES, 12 dimensions"
STATIC = "best static method without regression"
STATIC_REGMEAN = "best static method, RegMean too"
STATIC_ALL = "best static method, FeatCal too"
OURS = "ours: two islands, all methods"
ARMS: dict[str, Callable[[Arena], Chosen]] = {
    "joint training (bound)": lambda arena: (arena.joint, 0),
    "base": lambda arena: (arena.models.base or {}, 0),
    "best parent": lambda arena: best(arena, [arena.space.parent(i) for i in range(TASKS)]),
    "uniform soup": lambda arena: (arena.merge(arena.space.default("linear")), 0),
    "soup of strangers (control)": strangers,
    STATIC: partial(statics, methods=NO_REGRESSION),
    "random search without regression": random_search,
    "GA, task arithmetic": partial(evolve, methods=("task_arithmetic",), strategies=("genetic",)),
    "GA without regression": partial(evolve, methods=NO_REGRESSION, strategies=("genetic",)),
    CMA_ARM: cma_es,
    "RegMean, α = 0.9": of("regmean", 18),
    "RegMean, α = 1": of("regmean", UNIT),
    STATIC_REGMEAN: partial(statics, methods=NO_CALIBRATION),
    "two islands without calibration": partial(evolve, methods=NO_CALIBRATION, strategies=("genetic",) * 2),
    "RegMean++ (FeatCal, α = 0)": of("featcal", 0),
    "FeatCal, α = 1": of("featcal", UNIT),
    STATIC_ALL: partial(statics, methods=ALL_METHODS),
    "ours, fitness is accuracy": partial(evolve, methods=ALL_METHODS, strategies=("genetic", "genetic")),
    OURS: partial(evolve, methods=ALL_METHODS, strategies=("genetic", "genetic"), fitness="likelihood"),
    "ours: a genetic and a CatCMA island": partial(
        evolve, methods=ALL_METHODS, strategies=("genetic", "catcma"), fitness="likelihood"
    ),
}


def verdicts(answers_of: Mapping[str, list[np.ndarray]]) -> list[str]:
    """What "ahead" means here, each with whether it holds."""
    ours, seeds = answers_of[OURS], len(answers_of[OURS])
    needed = -(-9 * seeds // 10)
    mean = float(np.mean([seed_answers.mean() for seed_answers in ours]))
    lines = [f"mean test accuracy {mean:.3f}, wanted 0.845: {'holds' if mean >= 0.845 else 'FAILS'}"]
    lows = [paired_interval(a, b)[1] for a, b in zip(ours, answers_of[CMA_ARM], strict=True)]
    above = sum(low > 0.05 for low in lows)
    lines.append(
        f"paired 95% interval against {CMA_ARM} above +5 points in {above} of {seeds} seeds"
        f" (lowest bound {min(lows):+.3f}), wanted {needed}: {'holds' if above >= needed else 'FAILS'}"
    )
    for name in (STATIC, STATIC_REGMEAN, STATIC_ALL):
        pairs = [paired_interval(a, b) for a, b in zip(ours, answers_of[name], strict=True)]
        above, sure = sum(pair[0] > 0 for pair in pairs), sum(pair[1] > 0 for pair in pairs)
        lines.append(
            f"above {name} in {above} of {seeds} seeds ({sure} with the whole interval),"
            f" mean difference {np.mean([pair[0] for pair in pairs]):+.3f},"
            f" wanted {needed}: {'holds' if above >= needed else 'FAILS'}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--tasks", choices=("rotations", "classes"), default="rotations")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="only these; repeatable")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms = {name: ARMS[name] for name in options.arm or ARMS}
    answers_of: dict[str, list[np.ndarray]] = {name: [] for name in arms}
    used: dict[str, int] = {}
    seconds = dict.fromkeys(arms, 0.0)
    for seed in range(options.first, options.first + options.seeds):
        arena = Arena(seed, options.tasks)
        for name, arm in arms.items():
            began = time.process_time()
            state, used[name] = arm(arena)
            seconds[name] += (time.process_time() - began) / options.seeds
            answers_of[name].append(arena.test(state))
    print(f"test accuracy over {options.seeds} seeds")
    print("| arm | evaluations | mean | min – max | CPU-seconds a seed |\n|---|---|---|---|---|")
    for name, answers in answers_of.items():
        scores = [float(seed_answers.mean()) for seed_answers in answers]
        spread = f"{min(scores):.3f} – {max(scores):.3f}"
        print(f"| {name} | {used[name]} | {np.mean(scores):.3f} | {spread} | {seconds[name]:.1f} |")
    if not options.arm:
        print("\n".join(["", *verdicts(answers_of)]))


if __name__ == "__main__":
    main()
