"""Which fitness finds merges that are also good elsewhere: accuracy or likelihood on a few items?

    python tests/performance/merging/merge_fitness.py --input A --input B --input C --seeds 2

The models are artifacts of phase cognate. For each seed the tiny profile's search runs once with each fitness, on
other items; its champion, the best of generation 0 and the best parent (by that fitness) are then asked `--items`
questions of each suite from the select split, which no search has seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from components.evomerge.evaluation.merge_evaluator import MergeEvaluator
from components.evomerge.search.archive import Record, ranked
from components.evomerge.search.evolution import EvolutionParameters
from components.evomerge.search.population import SearchIdentity, join_islands
from components.evomerge.search.worker import Search
from components.evomerge.settings import Settings
from components.shared.runtime.artifact import artifact
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.config.compose import compose
from components.shared.runtime.tracking.progress import Progress


def evaluator_of(parents: Sequence[artifact.Artifact], settings: Settings, seed: int) -> MergeEvaluator:
    """As the phase makes it, with the parents' trunk as base."""
    return MergeEvaluator(
        parents, base=None, methods=settings.methods, layer_groups=settings.layer_groups, repeats=settings.repeats,
        extra_layers=settings.extra_layers, suites=settings.suites, items=settings.items, fitness=settings.fitness,
        calibration_items=settings.calibration_items, seed=seed, batch=32,
    )  # fmt: skip


def search(evaluator: MergeEvaluator, settings: Settings, seed: int, *, race: bool = True) -> list[Record]:
    """Every record of a search, best first. race: whether candidates that are surely worse see a part of the items only."""
    scorer = evaluator.search_scorer
    with tempfile.TemporaryDirectory() as folder:
        island_search = Search(
            evaluator.space,
            SearchIdentity(
                (), seed, settings.suites, settings.items, settings.fitness, settings.calibration_items
            ),
            lambda genome, rival: evaluator.measure(genome, scorer, rival if race else None),
            random=lambda name: np.random.default_rng([seed, *name.encode()]),
            checkpoints=Checkpoints(folder, "0" * 64, every=1e9),
            progress=Progress("evomerge"),
        )
        population = island_search.start()
        parameters = EvolutionParameters(settings.population, "genetic", settings.collapse, settings.patience)
        for number in range(settings.rounds):
            population = join_islands(
                [
                    island_search.evolve_island(
                        population,
                        worker=i,
                        round=number,
                        generations=settings.generations // settings.rounds,
                        parameters=parameters,
                    )
                    for i in range(settings.islands)
                ]
            )
    return population.archive.ranked()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", action="append", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--items", type=int, default=96)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parents = [artifact.read(folder) for folder in options.input]
    print("| seed | fitness | champion | best of generation 0 | best parent |\n|---|---|---|---|---|")
    for seed in range(1, options.seeds + 1):
        for fitness in ("accuracy", "likelihood"):
            config = compose("evomerge", Settings, overrides=[f"evomerge.fitness={fitness}"])
            evaluator = evaluator_of(parents, config.settings, seed)
            records = search(evaluator, config.settings, seed)
            zero = ranked(record for record in records if record.provenance.generation == 0)
            parent = next(record for record in zero if record.provenance.origin.startswith("parent"))
            scorer = evaluator.scorer("select", options.items)
            shown = []
            for record in (records[0], zero[0], parent):
                answers = scorer.answers(evaluator.model(record.genome))
                shown.append(f"{answers.right.mean():.3f}, {answers.loss:.2f} nats")
            print(f"| {seed} | {fitness} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
