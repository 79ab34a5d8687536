"""Generation 0: everything that needs no search. The champion is never worse than any of it on the search
split.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from components.shared.merging.methods import PATHS
from components.shared.merging.methods.layers.dfs import indicator
from components.shared.merging.methods.layers.frankenmerge import splice

from .genome import SCALE, UNIT, Genome
from .space import Space

# Where a paper gives another default than "everything, at length 1". Task arithmetic's λ = 0.3 to 0.4 is for
# each of the summed task vectors (arXiv 2212.04089, appendix B); TIES keeps 20% at λ = 1 (arXiv 2306.01708,
# §5); DARE drops half or more (arXiv 2311.03099, §4); FeatCal's target is the parent's own output (calibration.py).
LAMBDA_OF_EACH = 8  # 0.4
TIES_DENSITY = 4  # 0.2
DARE_DENSITY = 10  # 0.5
# Where the search starts with the sparse methods that came later; their densities are genes as well.
OTHER_DENSITIES = {"della": 10, "breadcrumbs": 3, "sce": 2}


def static(method: str, space: Space) -> Genome:
    """A method with equal weights and the other settings of its paper."""
    genome = space.default(method)
    if method in ("task_arithmetic", "dare_linear", "breadcrumbs"):
        genome = replace(genome, scales=(min(LAMBDA_OF_EACH * space.parents, SCALE[1]),) * space.groups)
    if method == "ties":
        genome = replace(genome, density=TIES_DENSITY)
    if method in ("dare_linear", "dare_ties"):
        genome = replace(genome, density=DARE_DENSITY)
    if method in OTHER_DENSITIES:
        genome = replace(genome, density=OTHER_DENSITIES[method])
    if method == "featcal":
        genome = replace(genome, alpha=UNIT)
    if method in ("frankenmerge", "dfs"):
        wanted = splice(range(space.parents), space.layers)
        path = indicator(wanted, space.parents, space.layers, space.repeats)
        genome = replace(genome, path=path, hops=(UNIT,) * space.slots)
    return space.canonical(genome)


def midpoint(a: int, b: int, space: Space) -> Genome:
    """The soup of two parents: a static method, and where linear mode connectivity is looked at
    (connectivity.py).
    """
    row = tuple(int(i in (a, b)) for i in range(space.parents))
    return space.canonical(Genome("linear", (row,) * space.groups))


def generation_zero(space: Space) -> list[tuple[str, Genome]]:
    """(origin, genome): the base trunk, each parent, the soup of each two, every allowed method at its
    defaults.

    Each genome once, in this order. Every one of them is canonical.
    """
    found: dict[Genome, str] = {}
    if space.has_base:
        found[space.base()] = "base"
    for index in range(space.parents):
        found[space.canonical(space.parent(index))] = f"parent {index}"
    for a, b in itertools.combinations(range(space.parents), 2):
        if space.parents > 2:
            found.setdefault(midpoint(a, b, space), f"midpoint {a} {b}")
    found.setdefault(space.default("linear"), "static linear")
    for method in space.methods:
        if method not in PATHS or space.layers:
            found.setdefault(static(method, space), f"static {method}")
    return [(origin, genome) for genome, origin in found.items()]
