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
from torch import Tensor

from ..checkpoint.mapped_model import MappedModel
from ..gram import gram
from .plan import Target

SAMPLE = 1 << 14  # entries of each matrix: independent ones have a cosine of 0 ± .008
UNRELATED = 0.2
TENSORS = 64


def cosines(models: Sequence[MappedModel], targets: Sequence[Target]) -> dict[tuple[int, int], float]:
    """For each two models, the median over matrices of the cosine of the same evenly spaced entries."""
    matrices = [
        target for target in targets if len(target.shape) == 2 and not target.carried and not target.by_token
    ]
    values: dict[tuple[int, int], list[float]] = {}
    for target in matrices[:: -(-len(matrices) // TENSORS) or 1]:
        own = list(zip(target.models, target.names, strict=True))
        samples = [_sample(models[number].flat(name)) for number, name in own]
        products = gram(samples)
        for a, b in itertools.combinations(range(len(own)), 2):
            norm = float(np.sqrt(products[a, a] * products[b, b]))
            cosine = float(products[a, b]) / norm if norm else 0.0
            values.setdefault((target.models[a], target.models[b]), []).append(cosine)
        for number, name in own:
            models[number].release(name)
    return {pair: statistics.median(cosines) for pair, cosines in values.items()}


def _sample(numbers: Tensor) -> Tensor:
    return numbers[:: max(1, len(numbers) // SAMPLE)].float()


def warnings(models: Sequence[MappedModel], targets: Sequence[Target]) -> list[str]:
    """What a person should know of models that come from different initialisations, in words."""
    return [
        f"{models[a].folder.name} and {models[b].folder.name} come from different initialisations (the median cosine of "
        f"their matrices is {cosine:.2f}; models of one trunk have one near 1). Merged, they will most likely answer no "
        "better than chance: merge models that were trained from one base"
        for (a, b), cosine in cosines(models, targets).items()
        if cosine < UNRELATED
    ]
