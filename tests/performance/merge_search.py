"""What matters in evolutionary merging: the operator or the optimiser? Digits, a small network, minutes of one core.

    python tests/performance/merge_search.py --seeds 3

scikit-learn's digits turned by 0, 90 and 180 degrees are three tasks. A 64-96-96-96-10 network (25,834 parameters) is
trained for 60 steps on all of them (the base), then 300 steps on each task alone (three parents). Every arm may look at the
search split up to 400 times; what it chose is scored on the test split once. Joint training, which needs all data in one
place, is the bound; parents from initialisations of their own are the negative control.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from cmaes import CMA
from sklearn.datasets import load_digits
from torch import Tensor, nn

from components.evomerge.archive import Archive, Measurement
from components.evomerge.generation_zero import generation_zero, static
from components.evomerge.genome import Genome
from components.evomerge.merging import Merger, Models
from components.evomerge.methods import METHODS
from components.evomerge.methods.linear import linear
from components.evomerge.methods.task_arithmetic import task_arithmetic
from components.evomerge.population import Setting, join
from components.evomerge.search import Search
from components.evomerge.space import Space
from components.shared.models.gram import capture_grams
from components.shared.runtime.checkpoint import Checkpoints
from components.shared.runtime.progress import Progress

WIDTHS = (64, 96, 96, 96, 10)
TASKS = 3
State = Mapping[str, Tensor]


class Network(nn.Module):
    """x: (B, 64) → logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(WIDTHS))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


@dataclass
class Data:
    """Per split and task: x (n, 64) float32 and y (n,) int64."""

    train: list[tuple[Tensor, Tensor]]
    search: list[tuple[Tensor, Tensor]]
    test: list[tuple[Tensor, Tensor]]


def load(seed: int) -> Data:
    """60 / 20 / 20 percent of the images, turned by 0, 90 and 180 degrees."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)
    targets = torch.from_numpy(digits.target[order].astype(np.int64))
    turned = [
        torch.from_numpy(np.rot90(images, turns, axes=(1, 2)).reshape(-1, 64).copy())
        for turns in range(TASKS)
    ]
    cuts = [0, int(0.6 * len(order)), int(0.8 * len(order)), len(order)]
    splits = [[(x[a:b], targets[a:b]) for x in turned] for a, b in itertools.pairwise(cuts)]
    return Data(*splits)


def train(network: Network, tasks: list[tuple[Tensor, Tensor]], steps: int, seed: int) -> Network:
    x, y = (torch.cat(parts) for parts in zip(*tasks, strict=True))
    generator = torch.Generator().manual_seed(seed)
    rule = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,), generator=generator)
        rule.zero_grad()
        F.cross_entropy(network(x[rows]), y[rows]).backward()
        rule.step()
    return network


def network(seed: int, state: State | None = None) -> Network:
    torch.manual_seed(seed)
    made = Network()
    if state is not None:
        made.load_state_dict(dict(state))
    return made


def accuracy(state: State, tasks: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Of each task."""
    with torch.no_grad():
        scores = []
        for x, y in tasks:
            for i in range(len(WIDTHS) - 1):
                x = F.linear(x, state[f"layers.{i}.weight"], state[f"layers.{i}.bias"])
                x = F.relu(x) if i < len(WIDTHS) - 2 else x
            scores.append(float((x.argmax(1) == y).float().mean()))
    return scores


class Arena:
    """One seed: base, parents and everything that an arm needs."""

    def __init__(self, seed: int, budget: int) -> None:
        self.seed, self.budget = seed, budget
        self.data = load(seed)
        base = train(network(seed), self.data.train, 60, seed)
        start = {name: tensor.clone() for name, tensor in base.state_dict().items()}
        parents = [train(network(seed, start), [task], 300, seed + 1) for task in self.data.train]
        grams = [self._grams(parent, task[0]) for parent, task in zip(parents, self.data.train, strict=True)]
        states = [dict(parent.state_dict()) for parent in parents]
        self.models = Models(parents=states, base=start, grams=grams)
        self.joint = train(network(seed, start), self.data.train, 900, seed + 1).state_dict()
        strangers = [
            train(network(seed + 100 + i), [task], 360, seed) for i, task in enumerate(self.data.train)
        ]
        self.strangers = [dict(stranger.state_dict()) for stranger in strangers]
        self.space = Space(parents=TASKS, groups=len(WIDTHS) - 1, methods=tuple(METHODS), layers=0)
        self.merger = Merger(self.models, self.space, layer_groups=len(WIDTHS) - 1, seed=seed)

    def _grams(self, parent: Network, x: Tensor) -> dict[str, Tensor]:
        found = capture_grams(parent, [{"x": x}])
        return {f"{path}.weight": gram for path, gram in found.items()}

    def search_score(self, state: State) -> float:
        return float(np.mean(accuracy(state, self.data.search)))

    def test_score(self, state: State) -> float:
        return float(np.mean(accuracy(state, self.data.test)))

    def measure(self, genome: Genome) -> Measurement:
        scores = accuracy(dict(self.merger.merged(genome)), self.data.search)
        return Measurement(float(np.mean(scores)), {str(i): score for i, score in enumerate(scores)})

    def best(self, genomes: list[Genome]) -> tuple[float, int]:
        """Test score of the one that is best on the search split, and how many were measured."""
        chosen = max(genomes, key=lambda genome: self.measure(genome).fitness or 0.0)
        return self.test_score(dict(self.merger.merged(chosen))), len(genomes)

    def evolve(self, methods: tuple[str, ...], breeders: tuple[str, ...]) -> tuple[float, int]:
        """The phase's own search, an island for each breeder, until the budget is used up."""
        space = replace(self.space, methods=methods)
        setting = Setting(("digits",), self.seed, ("digits",), 0, "accuracy")
        with tempfile.TemporaryDirectory() as folder:
            search = Search(
                space,
                setting,
                self.measure,
                random=lambda name: np.random.default_rng([self.seed, *name.encode()]),
                checkpoints=Checkpoints(folder, "0" * 64, every=1e9),
                progress=Progress("digits", stream=open("/dev/null", "w")),  # noqa: SIM115
            )
            population, number = search.start(), 0
            while len(search.measured) < self.budget:
                population = join(
                    [
                        search.live(
                            population,
                            worker=i,
                            round=number,
                            generations=5,
                            size=8,
                            breeder=breeder,
                            collapse=0.02,
                        )
                        for i, breeder in enumerate(breeders)
                    ]
                )
                number += 1
        within = Archive(list(population.archive)[: self.budget])
        champion = within.best().genome
        return self.test_score(dict(self.merger.merged(champion))), len(within)


def single(state: Callable[[Arena], State]) -> Callable[[Arena], tuple[float, int]]:
    return lambda arena: (arena.test_score(state(arena)), 0)


def random_search(arena: Arena) -> tuple[float, int]:
    rng = np.random.default_rng(arena.seed)
    space = replace(arena.space, methods=tuple(name for name in METHODS if name != "regmean"))
    return arena.best([space.random(rng) for _ in range(arena.budget)])


def cma_es(arena: Arena) -> tuple[float, int]:
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

    optimiser = CMA(np.full(12, 1 / 3), 0.2, seed=arena.seed)
    best, chosen, used = -1.0, np.full(12, 1 / 3), 0
    while used + optimiser.population_size <= arena.budget:
        told = []
        for _ in range(optimiser.population_size):
            vector = optimiser.ask()
            score = arena.search_score(build(vector))
            told.append((vector, -score))
            used += 1
            if score > best:
                best, chosen = score, vector
        optimiser.tell(told)
    return arena.test_score(build(chosen)), used


def static_arm(arena: Arena) -> tuple[float, int]:
    space = replace(arena.space, methods=tuple(name for name in METHODS if name != "regmean"))
    return arena.best([genome for origin, genome in generation_zero(space) if origin.startswith("static")])


def regmean_arm(arena: Arena) -> tuple[float, int]:
    genome = static("regmean", arena.space)
    return arena.best([replace(genome, alpha=alpha) for alpha in (10, 14, 16, 18, 20)])


WITHOUT_REGMEAN = tuple(name for name in METHODS if name != "regmean")
ARMS: dict[str, Callable[[Arena], tuple[float, int]]] = {
    "joint training (bound)": single(lambda arena: arena.joint),
    "base": single(lambda arena: arena.models.base or {}),
    "best parent": lambda arena: arena.best([arena.space.parent(i) for i in range(TASKS)]),
    "uniform soup": single(lambda arena: dict(arena.merger.merged(arena.space.default("linear")))),
    "soup of strangers (control)": single(
        lambda arena: {n: linear([s[n] for s in arena.strangers], [1 / 3] * 3) for n in arena.strangers[0]}
    ),
    "best static without RegMean": static_arm,
    "random search": random_search,
    "GA, task arithmetic": lambda arena: arena.evolve(("task_arithmetic",), ("genetic",)),
    "GA, all but RegMean": lambda arena: arena.evolve(WITHOUT_REGMEAN, ("genetic",)),
    "CMA-ES, 12 dimensions": cma_es,
    "RegMean, five α": regmean_arm,
    "ours: two islands, all methods": lambda arena: arena.evolve(tuple(METHODS), ("genetic", "genetic")),
    "ours: GA and CMA-ES islands": lambda arena: arena.evolve(tuple(METHODS), ("genetic", "cma-es")),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=400)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    found: dict[str, list[float]] = {name: [] for name in ARMS}
    used: dict[str, int] = {}
    for seed in range(given.seeds):
        arena = Arena(seed, given.evaluations)
        for name, arm in ARMS.items():
            score, used[name] = arm(arena)
            found[name].append(score)
    print(f"test accuracy over {given.seeds} seeds; {time.process_time() - began:.0f} CPU-seconds")
    print("| arm | evaluations | mean | min – max |\n|---|---|---|---|")
    for name, scores in found.items():
        print(f"| {name} | {used[name]} | {np.mean(scores):.3f} | {min(scores):.3f} – {max(scores):.3f} |")


if __name__ == "__main__":
    main()
