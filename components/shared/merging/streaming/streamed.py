"""The merge methods as they are streamed: what is asked of a tensor as a whole first, then piece by piece.

The mathematics is in ../methods; here it is said what of it needs a look at the whole tensor (a threshold, a Gram matrix),
which parameters a recipe may set, and what they are when it does not. A parent's parameters are `weight`, `density`,
`gamma` and `epsilon`; the others are common to all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gram import gram
from ..magnitude import threshold
from ..methods.averages.karcher import coefficients as karcher
from ..methods.averages.linear import linear
from ..methods.averages.model_stock import ratio
from ..methods.averages.nuslerp import fold as nuslerp
from ..methods.averages.slerp import coefficients as slerp
from ..methods.task_vectors.breadcrumbs import crumbs, limits
from ..methods.task_vectors.dare import drop_and_rescale
from ..methods.task_vectors.della import magprune
from ..methods.task_vectors.sce import fuse, least_variance, select, shares, variance
from ..methods.task_vectors.ties import agreeing, elect, trim
from .pieces import Piece, Pieces

OWN = frozenset({"weight", "density", "gamma", "epsilon"})
NO_WEIGHT = 1e-8  # weights that sum to less are not divided by


@dataclass(frozen=True)
class Terms:
    """The numbers of one tensor's merge.

    own: each parent's parameters. common: the other ones. thresholds: TIES's, when they were found over the whole model.
    name, seed: the key of random masks.
    """

    name: str
    own: Sequence[Mapping[str, float]]
    common: Mapping[str, float]
    seed: int
    thresholds: Sequence[float] | None = None

    @property
    def weights(self) -> list[float]:
        return [parent["weight"] for parent in self.own]


Survey = Callable[[Pieces, Terms], Any]
Merge = Callable[[Piece, Terms, Any], Tensor]


@dataclass(frozen=True)
class Streamed:
    """parameters: those a recipe may set, with their defaults. whole: needs whole rows, vectors too.
    A base that a method neither needs nor reads is given for its tokenizer alone.
    """

    pretty_name: str
    reference: str
    merge: Merge
    survey: Survey | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    needs_base: bool = True
    reads_base: bool = False  # where one is given
    whole: bool = False
    most: int = 10


def _divided(total: Tensor, weights: Sequence[float], terms: Terms) -> Tensor:
    whole = sum(weights)
    return total.div_(whole) if terms.common["normalize"] and abs(whole) > NO_WEIGHT else total


def _step(piece: Piece, total: Tensor, terms: Terms) -> Tensor:
    return total.mul_(terms.common["lambda"]).add_(piece.origin)


def _linear(piece: Piece, terms: Terms, _: Any) -> Tensor:
    return _divided(linear(piece.parents, terms.weights), terms.weights, terms)


def _coefficients(piece: Piece, terms: Terms, found: list[float]) -> Tensor:
    return linear(piece.parents, found)


def _gram(pieces: Pieces) -> np.ndarray:
    """Of the parents, added up in the order of the pieces."""
    return np.sum(list(pieces.map(lambda piece: gram(piece.parents))), axis=0)


def _task_gram(pieces: Pieces) -> np.ndarray:
    return np.sum(list(pieces.map(lambda piece: gram(piece.tasks()))), axis=0)


def _stock(piece: Piece, terms: Terms, t: float) -> Tensor:
    tasks = piece.tasks()
    return linear(tasks, [t / len(tasks)] * len(tasks)).add_(piece.origin)


def _nuslerp(piece: Piece, terms: Terms, _: Any) -> Tensor:
    tasks = piece.tasks() if piece.base is not None else piece.parents
    merged = nuslerp(tasks, terms.weights)
    return merged if piece.base is None else merged.add_(piece.base)


def _as_it_is(piece: Piece, terms: Terms, found: Any) -> list[Tensor]:
    return piece.tasks()


def _trimmed(piece: Piece, terms: Terms, found: list[float]) -> list[Tensor]:
    return [trim(task, least) for task, least in zip(piece.tasks(), found, strict=True)]


def _thresholds(pieces: Pieces, terms: Terms) -> list[float]:
    if terms.thresholds is not None:
        return list(terms.thresholds)
    return pieces.each_parent(
        lambda parent: threshold(lambda: pieces.task(parent), terms.own[parent]["density"])
    )


def _dropped(piece: Piece, terms: Terms, _: Any) -> list[Tensor]:
    return [
        drop_and_rescale(
            task, own["density"], seed=terms.seed, name=terms.name, parent=parent, start=piece.start
        )
        for parent, (task, own) in enumerate(zip(piece.tasks(), terms.own, strict=True))
    ]


def _pruned(piece: Piece, terms: Terms, _: Any) -> list[Tensor]:
    return [
        magprune(
            task, own["density"], own["epsilon"],
            seed=terms.seed, name=terms.name, parent=parent, start=piece.start,
        )
        for parent, (task, own) in enumerate(zip(piece.tasks(), terms.own, strict=True))
    ]  # fmt: skip


def _limits(pieces: Pieces, terms: Terms) -> list[tuple[float, float]]:
    return pieces.each_parent(
        lambda parent: limits(
            lambda: pieces.task(parent), terms.own[parent]["density"], terms.own[parent]["gamma"]
        )
    )


def _crumbs(piece: Piece, terms: Terms, found: list[tuple[float, float]]) -> list[Tensor]:
    return [crumbs(task, *limit) for task, limit in zip(piece.tasks(), found, strict=True)]


def _summed(sparse: Callable[..., list[Tensor]], piece: Piece, terms: Terms, found: Any) -> Tensor:
    """Task arithmetic of what is left of the task vectors."""
    total = linear(sparse(piece, terms, found), terms.weights)
    return _step(piece, _divided(total, terms.weights, terms), terms)


def _elected(sparse: Callable[..., list[Tensor]], piece: Piece, terms: Terms, found: Any) -> Tensor:
    """TIES's election and disjoint mean (or sum) of what is left of the task vectors."""
    tasks = sparse(piece, terms, found)
    total, votes = agreeing(tasks, terms.weights, elect(tasks, terms.weights))
    if terms.common["normalize"]:
        total.div_(votes.clamp_min_(torch.finfo(votes.dtype).tiny))
    return _step(piece, total, terms)


def _sce_survey(pieces: Pieces, terms: Terms) -> tuple[float, list[float]]:
    """The least variance that is selected, and the parents' shares of the energy."""
    spreads = lambda: pieces.map(lambda piece: variance(piece.tasks()))  # noqa: E731
    least = least_variance(spreads, terms.common["select_topk"])

    def energies(piece: Piece) -> list[float]:
        tasks = piece.tasks()
        return [float(task.double().square().sum()) for task in select(tasks, variance(tasks), least)]

    return least, shares(np.sum(list(pieces.map(energies)), axis=0).tolist())


def _sce(piece: Piece, terms: Terms, found: tuple[float, list[float]]) -> Tensor:
    tasks = piece.tasks()
    return fuse(select(tasks, variance(tasks), found[0]), found[1]).add_(piece.origin)


def _task_method(
    pretty_name: str, paper: str, sparse: Callable[..., list[Tensor]], *, signs: bool, **more: Any
) -> Streamed:
    parameters = {"weight": 1.0, "lambda": 1.0, "normalize": 1.0, **more.pop("parameters", {})}
    merge = functools.partial(_elected if signs else _summed, sparse)
    return Streamed(pretty_name, f"https://arxiv.org/abs/{paper}", merge, parameters=parameters, **more)


DENSITY: Mapping[str, float] = {"density": 1.0}
CRUMBS: Mapping[str, float] = {"density": 1.0, "gamma": 0.01}
WINDOW: Mapping[str, float] = {"density": 1.0, "epsilon": 0.15}

STREAMED: dict[str, Streamed] = {
    "linear": Streamed(
        "Linear (model soup)", "https://arxiv.org/abs/2203.05482", _linear,
        parameters={"weight": 1.0, "normalize": 1.0}, needs_base=False,
    ),
    "slerp": Streamed(
        "SLERP", "https://doi.org/10.1145/325165.325242", _coefficients,
        lambda pieces, terms: slerp(_gram(pieces), terms.weights), {"weight": 1.0}, needs_base=False,
    ),
    "nuslerp": Streamed(
        "NuSLERP", "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md#nuslerp-nuslerp",
        _nuslerp, None, {"weight": 1.0}, needs_base=False, reads_base=True, whole=True,
    ),
    "karcher": Streamed(
        "Karcher mean", "https://doi.org/10.1002/cpa.3160300502", _coefficients,
        lambda pieces, terms: karcher(_gram(pieces), terms.weights), {"weight": 1.0}, needs_base=False,
    ),
    "model_stock": Streamed(
        "Model stock", "https://arxiv.org/abs/2403.19522", _stock,
        lambda pieces, terms: ratio(_task_gram(pieces)),
    ),
    "sce": Streamed(
        "SCE", "https://arxiv.org/abs/2408.07990", _sce, _sce_survey, {"select_topk": 1.0},
    ),
    "task_arithmetic": _task_method("Task arithmetic", "2212.04089", _as_it_is, signs=False),
    "ties": _task_method(
        "TIES", "2306.01708", _trimmed, signs=True, survey=_thresholds, parameters=DENSITY
    ),
    "dare_linear": _task_method("DARE + task arithmetic", "2311.03099", _dropped, signs=False, parameters=DENSITY),
    "dare_ties": _task_method("DARE + TIES", "2311.03099", _dropped, signs=True, parameters=DENSITY),
    "della_linear": _task_method(
        "DELLA without election", "2406.11617", _pruned, signs=False, parameters=WINDOW, whole=True
    ),
    "della": _task_method("DELLA", "2406.11617", _pruned, signs=True, parameters=WINDOW, whole=True),
    "breadcrumbs": _task_method(
        "Model Breadcrumbs", "2312.06795", _crumbs, signs=False, survey=_limits, parameters=CRUMBS
    ),
    "breadcrumbs_ties": _task_method(
        "Model Breadcrumbs + TIES", "2312.06795", _crumbs, signs=True, survey=_limits, parameters=CRUMBS
    ),
}  # fmt: skip
