"""Variation: small changes to a good genome, and children of several poor ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from components.shared.merging.registry import merge_method

from .genome import ALPHA, DENSITY, HOP, SCALE, UNIT, Genome, clip, quantise_row
from .space import SearchSpace

METHOD_RATE = 0.1  # how often a mutation changes the method
GENE_RATE = 0.4  # how often it changes each gene that the method reads
# Standard deviations of a change, as shares of a gene's range, at the largest reach. A mutation's reach is drawn from
# two orders of magnitude (log-uniform): far jumps and fine steps are both tried, without a step size to adapt.
WEIGHT_STEP = 0.5
SCALAR_STEP = 0.3
REACH = (-1.5, 0.0)  # log10
TRIES = 20  # draws until the mutant is another genome; a space of one genome ends here


def mutate(genome: Genome, space: SearchSpace, rng: np.random.Generator) -> Genome:
    """A canonical genome near to another and, where the space has one, different from it."""
    for _ in range(TRIES):
        mutant = _mutant(genome, space, rng)
        if space.allows(mutant) and mutant != genome:
            return mutant
    return genome


def _mutant(genome: Genome, space: SearchSpace, rng: np.random.Generator) -> Genome:
    method = genome.method
    if rng.random() < METHOD_RATE or method not in space.methods:
        method = space.methods[rng.integers(len(space.methods))]
    if "path" in merge_method(method).genes:
        return space.canonical(_mutate_path(replace(genome, method=method), space, rng))
    reach = 10 ** rng.uniform(*REACH)
    weights = tuple(
        quantise_row([w / max(row) + rng.normal(0, WEIGHT_STEP * reach) for w in row])
        if rng.random() < GENE_RATE
        else row
        for row in genome.weights
    )
    scales = tuple(_step(genome.scale(group), SCALE, reach, rng) for group in range(space.groups))
    density, alpha = _step(genome.density, DENSITY, reach, rng), _step(genome.alpha, ALPHA, reach, rng)
    changed = replace(genome, method=method, weights=weights, scales=scales, density=density, alpha=alpha)
    return space.canonical(changed)


def _step(value: int, bounds: tuple[int, int], reach: float, rng: np.random.Generator) -> int:
    draw, change = rng.random(), rng.normal(0, SCALAR_STEP * reach * (bounds[1] - bounds[0]))
    return clip(value + change, bounds) if draw < GENE_RATE else value


def _mutate_path(genome: Genome, space: SearchSpace, rng: np.random.Generator) -> Genome:
    """Switch one or two slots of the layer row and shift one hop."""
    path = list(genome.path) if genome.path else list(space.random_path(rng))
    hops = list(genome.hops) if genome.hops else [UNIT] * space.slots
    for slot in rng.choice(space.slots, size=int(rng.integers(1, 3)), replace=False):
        path[slot] = 1 - path[slot]
    slot = int(rng.integers(space.slots))
    hops[slot] = clip(hops[slot] + rng.normal(0, SCALAR_STEP * (HOP[1] - HOP[0])), HOP)
    return replace(genome, path=tuple(path), hops=tuple(hops))


def recombine(genomes: Sequence[Genome], space: SearchSpace, rng: np.random.Generator) -> Genome:
    """One canonical child of two or more genomes.

    The method is one parent's. Numbers are a random convex mixture of all parents' (intermediate
    recombination of evolution strategies, Beyer and Schwefel 2002). Layer groups are mixed one way up to a split point
    and the other way round above it (M2N2, arXiv 2508.16204, where a mixing ratio w becomes 1 − w at the split
    point; here the proportions of several parents move on by one). A path is cut once and taken from two of them.
    """
    order = rng.permutation(len(genomes))
    first = genomes[order[0]]
    mixture = rng.dirichlet(np.ones(len(genomes)))
    split = int(rng.integers(0, space.groups + 1))
    mixtures = [mixture if group < split else np.roll(mixture, 1) for group in range(space.groups)]
    rows = [
        mixtures[group] @ np.array([genome.shares(group) for genome in genomes])
        for group in range(space.groups)
    ]
    child = replace(
        first,
        weights=tuple(quantise_row(row) for row in rows),
        density=_mix([genome.density for genome in genomes], mixture, DENSITY),
        scales=tuple(
            _mix([genome.scale(group) for genome in genomes], mixtures[group], SCALE)
            for group in range(space.groups)
        ),
        alpha=_mix([genome.alpha for genome in genomes], mixture, ALPHA),
    )
    others = [genomes[i] for i in order[1:] if genomes[i].path]
    if first.path and others:
        cut = int(rng.integers(1, space.slots))
        crossed = replace(
            child,
            method="dfs" if "dfs" in space.methods else first.method,
            path=first.path[:cut] + others[0].path[cut:],
            hops=_hops(first, space)[:cut] + _hops(others[0], space)[cut:],
        )
        child = crossed if space.allows(crossed) else child
    return space.canonical(child)


def _mix(values: Sequence[int], mixture: np.ndarray, bounds: tuple[int, int]) -> int:
    return clip(float(np.dot(values, mixture)), bounds)


def _hops(genome: Genome, space: SearchSpace) -> tuple[int, ...]:
    return genome.hops or (UNIT,) * space.slots
