"""Do the parents come from one initialisation? Seen from their weights, before the work.

Source: Frankle et al., Linear mode connectivity and the lottery ticket hypothesis, arXiv 1912.05671, §2 and 3: networks
that share an initialisation and an early trunk lie in one basin, others have a high barrier between them. The barrier
itself takes evaluations; the search makes them. This looks at the angle only: fine-tuning moves weights little beside their
length, so that models of one trunk point nearly the same way, whereas the matrices of independent initialisations are
orthogonal up to 1/√n.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import numpy as np

from ..gram import gram
from .mapped_model import MappedModel

SAMPLE = 1 << 14  # entries of each matrix: independent ones have a cosine of 0 ± .008
UNRELATED = 0.2
TENSORS = 64


def cosines(models: Sequence[MappedModel], names: Sequence[str]) -> dict[tuple[int, int], float]:
    """For each two models, the median over matrices of the cosine of the same evenly spaced entries."""
    matrices = [name for name in names if len(models[0].tensors[name].shape) == 2]
    by_pair: dict[tuple[int, int], list[float]] = {
        pair: [] for pair in itertools.combinations(range(len(models)), 2)
    }
    for name in matrices[:: -(-len(matrices) // TENSORS) or 1]:
        if len({model.tensors[name].shape for model in models}) > 1:
            continue
        count = models[0].tensors[name].count
        samples = [model.flat(name)[:: max(1, count // SAMPLE)].float() for model in models]
        products = gram(samples)
        for a, b in by_pair:
            norm = float(np.sqrt(products[a, a] * products[b, b]))
            by_pair[a, b].append(float(products[a, b]) / norm if norm else 0.0)
        for model in models:
            model.release(name)
    return {pair: statistics.median(values) for pair, values in by_pair.items() if values}


def warnings(models: Sequence[MappedModel], names: Sequence[str]) -> list[str]:
    """What a person should know of models that come from different initialisations, in words."""
    return [
        f"{models[a].folder.name} and {models[b].folder.name} come from different initialisations (the median cosine of "
        f"their matrices is {cosine:.2f}; models of one trunk have one near 1). Merged, they will most likely answer no "
        "better than chance: merge models that were trained from one base"
        for (a, b), cosine in cosines(models, names).items()
        if cosine < UNRELATED
    ]
