"""Generation 0: everything that needs no search. The champion is never worse than any of it on the search split."""

from __future__ import annotations

import itertools
from dataclasses import replace

from components.shared.merging.methods.layers.dfs import indicator
from components.shared.merging.methods.layers.frankenmerge import splice
from components.shared.merging.registry import merge_method

from .genome import ALPHA, DENSITY, SCALE, UNIT, Genome, clip
from .space import SearchSpace


def static(method: str, space: SearchSpace) -> Genome:
    """A method with equal weights, and its other genes where its declaration lets the search start."""
    declared, genome = merge_method(method), space.default(method)
    for parameter in declared.parameters:
        if parameter.start is None:
            continue
        units = parameter.start * UNIT * (space.parents if parameter.start_per_model else 1)
        if parameter.gene == "scales":
            genome = replace(genome, scales=(clip(units, SCALE),) * space.groups)
        elif parameter.gene == "density":
            genome = replace(genome, density=clip(units, DENSITY))
        elif parameter.gene == "alpha":
            genome = replace(genome, alpha=clip(units, ALPHA))
    if declared.kind == "layers":
        spliced = splice(range(space.parents), space.layers)
        path = indicator(spliced, space.parents, space.layers, space.repeats)
        genome = replace(genome, path=path, hops=(UNIT,) * space.slots)
    return space.canonical(genome)


def midpoint(a: int, b: int, space: SearchSpace) -> Genome:
    """The soup of two parents: a static merge, and where linear mode connectivity is looked at (connectivity.py)."""
    row = tuple(int(i in (a, b)) for i in range(space.parents))
    return space.canonical(Genome("linear", (row,) * space.groups))


def generation_zero(space: SearchSpace) -> list[tuple[str, Genome]]:
    """The base trunk, each parent, the soup of each two, every allowed method as its declaration has it.

    :returns: (origin, genome), each genome once, in this order, canonical.
    """
    origins: dict[Genome, str] = {}
    if space.has_base:
        origins[space.base()] = "base"
    for index in range(space.parents):
        origins[space.canonical(space.parent(index))] = f"parent {index}"
    for a, b in itertools.combinations(range(space.parents), 2):
        if space.parents > 2:
            origins.setdefault(midpoint(a, b, space), f"midpoint {a} {b}")
    origins.setdefault(space.default("linear"), "static linear")
    for method in space.methods:
        if merge_method(method).kind != "layers" or space.layers:
            origins.setdefault(static(method, space), f"static {method}")
    return [(origin, genome) for genome, origin in origins.items()]
