"""Does the search for an architecture beat drawing designs at random, with equally many evaluations? Minutes of one core.

    python tests/performance/adas_search.py MODEL --evaluations 40 --seeds 3

MODEL is an artifact of the phase adas (its experts and dispatcher are used) or any other model (none). Every arm begins
with nothing but the model alone, or, for "evolution + hand designs", with the archive as the phase seeds it; all may
look at the search split `evaluations` times. What an arm found best there is scored once on the report split. Prints
one row an arm: accuracy on both splits, mean over seeds, and the best hand design beside them.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from components.adas import search
from components.adas.bench import Bench
from components.adas.search import ArchiveEntry
from components.adas.space import Design, DesignSpace, design_space
from components.shared.agent.agent import AGENT, Agent
from components.shared.agent.architecture import Architecture
from components.shared.evaluation.suites import all_items
from components.shared.models.layers import decoder_layers
from components.shared.models.loading import load

ALONE = Design("The model as it is.", "model alone", Architecture())
Arm = Callable[[Bench, DesignSpace, int, int], list[ArchiveEntry]]


def at_random(bench: Bench, space: DesignSpace, evaluations: int, seed: int) -> list[ArchiveEntry]:
    """Designs up to six changes away from the model alone, each drawn anew."""
    rng = random.Random(f"random/{seed}")
    designs = [ALONE, *(space.at_random(rng) for _ in range(evaluations - 1))]
    return [search.evaluate(design, 0, bench.right) for design in designs]


def evolved(
    bench: Bench, space: DesignSpace, evaluations: int, seed: int, designs: list[Design]
) -> list[ArchiveEntry]:
    """Tournament of three, as the phase does it, without a stop at the plateau."""
    archive = [search.evaluate(design, 0, bench.right) for design in designs]
    number = 0
    while len(archive) < evaluations:
        number += 1
        search.generation(
            archive,
            number,
            space,
            bench.right,
            random.Random(f"adas/{seed}/{number}"),
            children=min(4, evaluations - len(archive)),
            tournament=3,
            crossover=0.3,
        )
    return archive


def evolution(bench: Bench, space: DesignSpace, evaluations: int, seed: int) -> list[ArchiveEntry]:
    return evolved(bench, space, evaluations, seed, [ALONE])


def evolution_from_hand_designs(
    bench: Bench, space: DesignSpace, evaluations: int, seed: int
) -> list[ArchiveEntry]:
    return evolved(bench, space, evaluations, seed, space.by_hand(0.8, {}))


def hand_designs(bench: Bench, space: DesignSpace, evaluations: int, seed: int) -> list[ArchiveEntry]:
    return [search.evaluate(design, 0, bench.right) for design in space.by_hand(0.8, {})]


ARMS: dict[str, Arm] = {
    "best hand design": hand_designs,
    "random search": at_random,
    "evolution": evolution,
    "evolution + hand designs": evolution_from_hand_designs,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=24, help="of each suite, on each split")
    options = parser.parse_args()
    torch.set_num_threads(1)

    if (Path(options.model) / AGENT).is_file():
        whole = Agent.load(options.model)
    else:
        whole = Agent(*load(options.model), Architecture())

    def agent(architecture: Architecture) -> Agent:
        return Agent(
            whole.model,
            whole.tokenizer,
            architecture,
            experts=whole.experts,
            dispatcher=whole.dispatcher,
            answer_tokens=whole.answer_tokens,
        )

    space = design_space(whole, len(decoder_layers(whole.model)))
    benches = {}
    for split in ("search", "report"):
        items = all_items(split=split, items=options.items, seed=0)
        benches[split] = Bench(agent, items, whole.dispatcher)
    alone = [float(bench.right(Architecture()).mean()) for bench in benches.values()]
    print(f"{'model alone':26} search {alone[0]:.3f}  report {alone[1]:.3f}")
    for name, arm in ARMS.items():
        found, reported, spent = [], [], 0
        for seed in range(options.seeds):
            archive = arm(benches["search"], space, options.evaluations, seed)
            best = search.fittest(archive)
            spent = len(archive)
            found.append(best.rank)
            reported.append(float(benches["report"].right(best.design.architecture).mean()))
        print(
            f"{name:26} search {np.mean(found):.3f}  report {np.mean(reported):.3f}  "
            f"({spent} evaluations, seeds: {', '.join(f'{value:.3f}' for value in found)})",
            flush=True,
        )


if __name__ == "__main__":
    main()
