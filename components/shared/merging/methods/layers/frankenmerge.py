"""Frankenmerge (passthrough): a model whose layers are taken whole from the parents and stacked.

Source: the passthrough method of mergekit (Goddard et al., arXiv 2403.13257, §3.2.3), with which the
community built deeper models; the layers' weights are not changed. A path is a list of (parent, layer): the
layers in the order in which a token meets them. Hop scaling belongs to dfs.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...method import WEIGHT, merge_method

LayerPath = tuple[tuple[int, int], ...]


def slices(ranges: Sequence[tuple[int, int, int]]) -> LayerPath:
    """[(parent, first, end)] → the path through these slices, layers first … end−1 of each."""
    return tuple((parent, layer) for parent, first, end in ranges for layer in range(first, end))


def splice(parents: Sequence[int], layers: int) -> LayerPath:
    """As deep as a parent: the lower layers of the first parent, … the upper ones of the last."""
    count = len(parents)
    bounds = [round(i * layers / count) for i in range(count + 1)]
    return slices([(parent, bounds[i], bounds[i + 1]) for i, parent in enumerate(parents)])


def overlap(lower: int, upper: int, layers: int, extra: int) -> LayerPath:
    """Deeper than a parent by `extra`: the lower parent's first layers, then the upper parent's last ones.

    The two slices share `extra` depths, centred, as in the 120B-from-70B stacks.
    """
    end = (layers + extra + 1) // 2
    return slices([(lower, 0, end), (upper, end - extra, layers)])


@merge_method(
    "frankenmerge",
    pretty_name="Frankenmerge (passthrough)",
    paper="https://arxiv.org/abs/2403.13257",
    summary="layers taken whole from the models and stacked",
    parameters=(WEIGHT,),  # of what is no layer
    kind="layers",
    base="unused",
    extra_genes=("path",),
)
def residual_divisors(path: LayerPath, scales: Sequence[float]) -> list[float]:
    """What the layers' writes into the residual stream are divided by: nothing is scaled."""
    return [1.0] * len(path)
