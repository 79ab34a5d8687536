"""Methods whose functions know no genome, as the search uses them: one tensor at a time, with the dials of a genome.

What a paper leaves open beside weights, density and λ is a number here. Fisher merging is not among them: the Fisher
information of a model is not something that artifacts carry.
"""

from __future__ import annotations

from torch import Tensor

from .inputs import Dials, Method, Parts
from .methods.averages.karcher import karcher
from .methods.averages.linear import linear
from .methods.averages.model_stock import model_stock
from .methods.task_vectors.breadcrumbs import crumbs, limits
from .methods.task_vectors.della import magprune
from .methods.task_vectors.sce import sce
from .methods.task_vectors.ties import ties

OUTLIERS = 0.01  # γ of Breadcrumbs
WINDOW = 0.1  # ε of DELLA, where the density leaves room for it


def merge_karcher(parts: Parts, dials: Dials) -> Tensor:
    return karcher(parts.parents, parts.weights)


def merge_model_stock(parts: Parts, dials: Dials) -> Tensor:
    return parts.origin + dials.scale * (model_stock(parts.origin, parts.parents) - parts.origin)


def merge_breadcrumbs(parts: Parts, dials: Dials) -> Tensor:
    kept = [
        crumbs(task, *limits(lambda task=task: [task], dials.density, OUTLIERS))  # type: ignore[misc]
        for task in parts.task_vectors()
    ]
    return parts.origin + dials.scale * linear(kept, parts.weights)


def merge_della(parts: Parts, dials: Dials) -> Tensor:
    window = min(WINDOW, dials.density / 2, 1 - dials.density)
    pruned = [
        magprune(task, dials.density, window, seed=dials.seed, name=parts.name, parent=index)
        for task, index in zip(parts.task_vectors(), parts.indices, strict=True)
    ]
    return parts.origin + dials.scale * ties(pruned, parts.weights, [0.0] * len(pruned))


def merge_sce(parts: Parts, dials: Dials) -> Tensor:
    return parts.origin + dials.scale * sce(parts.task_vectors(), dials.density)


KARCHER = Method(
    name="karcher",
    pretty_name="Karcher mean",
    reference="https://doi.org/10.1002/cpa.3160300502",
    genes=frozenset({"weights"}),
    needs_base=False,
    needs_grams=False,
    merge=merge_karcher,
)
MODEL_STOCK = Method(
    name="model_stock",
    pretty_name="Model stock",
    reference="https://arxiv.org/abs/2403.19522",
    genes=frozenset({"scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge_model_stock,
)
BREADCRUMBS = Method(
    name="breadcrumbs",
    pretty_name="Model Breadcrumbs",
    reference="https://arxiv.org/abs/2312.06795",
    genes=frozenset({"weights", "density", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge_breadcrumbs,
)
DELLA = Method(
    name="della",
    pretty_name="DELLA",
    reference="https://arxiv.org/abs/2406.11617",
    genes=frozenset({"weights", "density", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge_della,
)
SCE = Method(
    name="sce",
    pretty_name="SCE",
    reference="https://arxiv.org/abs/2408.07990",
    genes=frozenset({"density", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge_sce,
)
