"""Three parents on scikit-learn's digits, small enough that a merge and its evaluation take milliseconds.

The tasks are the digits turned by 0, 90 and 180 degrees, or (as a control) the digits 0 to 3, 4 to 6 and 7 to 9. A
64-96-96-96-10 network (25,834 parameters) is trained for 60 steps on all of them (the base), then 300 steps on each task
alone (three parents).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from components.evomerge.evaluation.calibration import CalibrationExamples
from components.evomerge.evaluation.genome_merger import GenomeMerger, ParentTensors
from components.evomerge.evaluation.item_scorer import Fitness
from components.evomerge.evaluation.merged_model import MergedModel
from components.evomerge.search.archive import Measurement
from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace
from components.shared.merging.registry import merge_methods
from components.shared.models.gram import capture_grams

WIDTHS = (64, 96, 96, 96, 10)
TASKS = 3
CLASSES = ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))  # of the class-disjoint parents
ALL_METHODS = tuple(
    name for name, method in merge_methods().items() if method.searched and method.kind != "layers"
)
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


def load(seed: int, tasks: str) -> Data:
    """60 / 20 / 20 percent of the images. tasks: "rotations" or "classes"."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)
    targets = torch.from_numpy(digits.target[order].astype(np.int64))
    turned = [
        torch.from_numpy(np.rot90(images, turns, axes=(1, 2)).reshape(-1, 64).copy())
        for turns in range(TASKS)
    ]
    cuts = [0, int(0.6 * len(order)), int(0.8 * len(order)), len(order)]
    splits = []
    for a, b in itertools.pairwise(cuts):
        if tasks == "rotations":
            splits.append([(x[a:b], targets[a:b]) for x in turned])
        else:
            x, y = turned[0][a:b], targets[a:b]
            chosen = [torch.isin(y, torch.tensor(classes)) for classes in CLASSES]
            splits.append([(x[mine], y[mine]) for mine in chosen])
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
    network = Network()
    if state is not None:
        network.load_state_dict(dict(state))
    return network


def logits(state: State, x: Tensor) -> Tensor:
    for i in range(len(WIDTHS) - 1):
        x = F.linear(x, state[f"layers.{i}.weight"], state[f"layers.{i}.bias"])
        x = F.relu(x) if i < len(WIDTHS) - 2 else x
    return x


def right(state: State, tasks: list[tuple[Tensor, Tensor]]) -> list[np.ndarray]:
    """Of each task, whether each image is told."""
    with torch.no_grad():
        return [(logits(state, x).argmax(1) == y).numpy() for x, y in tasks]


def likelihoods(state: State, tasks: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Of each task, the geometric mean probability of the right class."""
    with torch.no_grad():
        return [math.exp(-F.cross_entropy(logits(state, x), y)) for x, y in tasks]


class Arena:
    """One seed: base, parents and everything that an arm needs."""

    def __init__(self, seed: int, tasks: str = "rotations") -> None:
        self.seed = seed
        self.data = load(seed, tasks)
        base = train(network(seed), self.data.train, 60, seed)
        start = _copy(base)
        parents = [train(network(seed, start), [task], 300, seed + 1) for task in self.data.train]
        grams = [self._grams(parent, task[0]) for parent, task in zip(parents, self.data.train, strict=True)]
        self.models = ParentTensors(parents=[_copy(parent) for parent in parents], base=start, grams=grams)
        self.joint = _copy(train(network(seed, start), self.data.train, 900, seed + 1))
        self.strangers = [
            _copy(train(network(seed + 100 + i), [task], 360, seed)) for i, task in enumerate(self.data.train)
        ]
        groups = len(WIDTHS) - 1
        self.space = SearchSpace(parents=TASKS, groups=groups, methods=ALL_METHODS, layers=0)
        self.merger = GenomeMerger(self.models, self.space, layer_groups=groups, seed=seed)
        self.merged = MergedModel(network(seed), self.merger, self._examples)  # type: ignore[arg-type]

    def _grams(self, parent: Network, x: Tensor) -> dict[str, Tensor]:
        captured = capture_grams(parent, [{"x": x}])
        return {f"{path}.weight": gram for path, gram in captured.items()}

    def _examples(self) -> list[CalibrationExamples]:
        """Each parent's own training images, without their labels."""
        return [
            CalibrationExamples({"x": x}, torch.ones(len(x), dtype=torch.bool)) for x, _ in self.data.train
        ]

    def merge(self, genome: Genome) -> dict[str, Tensor]:
        return _copy(self.merged.load(genome))

    def search_score(self, state: State) -> float:
        return float(np.mean([answers.mean() for answers in right(state, self.data.search)]))

    def measure(self, genome: Genome, fitness: Fitness = "accuracy") -> Measurement:
        """On the search split, the mean over the tasks of what the phase's fitness is of a suite (scorer.py)."""
        state = dict(self.merged.load(genome).state_dict())
        scores = [float(answers.mean()) for answers in right(state, self.data.search)]
        values = scores if fitness == "accuracy" else likelihoods(state, self.data.search)
        return Measurement(float(np.mean(values)), {str(i): score for i, score in enumerate(scores)})

    def test(self, state: State) -> np.ndarray:
        """Whether each test image of each task is told, weighted so that the mean is that of the tasks."""
        parts = right(state, self.data.test)
        count = sum(len(part) for part in parts)
        return np.concatenate([part * count / (len(parts) * len(part)) for part in parts])


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
