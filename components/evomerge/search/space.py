"""The space of genomes for given parents: what is allowed, what is the same, and how to draw from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from components.shared.merging.method import Gene
from components.shared.merging.methods.layers.dfs import is_jump, path
from components.shared.merging.methods.layers.frankenmerge import LayerPath
from components.shared.merging.registry import merge_method

from .genome import ALPHA, DENSITY, HOP, SCALE, UNIT, Genome, quantise_row

BASE_METHOD = "task_arithmetic"  # the base is task arithmetic with λ = 0
PARENT_METHOD = "linear"  # a parent is the linear merge with all the weight on it


@dataclass(frozen=True)
class SearchSpace:
    """What genomes there are.

    :param parents: how many models.
    :param groups: rows of weights (layer groups; the last is all that is not a layer).
    :param methods: allowed names.
    :param has_base: whether the parents share a trunk.
    :param layers: of each parent.
    :param repeats: r of the layer row.
    :param deepest: most layers of a merged model.
    """

    parents: int
    groups: int
    methods: tuple[str, ...]
    has_base: bool = True
    layers: int = 0
    repeats: int = 1
    deepest: int = 0

    @property
    def slots(self) -> int:
        """Entries of a path's indicator array."""
        return self.parents * self.layers * self.repeats

    def base(self) -> Genome:
        """The genome that is the base."""
        return Genome(BASE_METHOD, ((1,) * self.parents,) * self.groups, (0,) * self.groups)

    def parent(self, index: int) -> Genome:
        """The genome that is a parent."""
        row = tuple(int(i == index) for i in range(self.parents))
        return Genome(PARENT_METHOD, (row,) * self.groups)

    def default(self, method: str) -> Genome:
        """Equal weights, everything else as a genome has it by itself."""
        return Genome(method, ((1,) * self.parents,) * self.groups)

    def layer_path(self, genome: Genome) -> LayerPath:
        """The (parent, layer) pairs of a path genome, in order."""
        return path(genome.path, self.parents, self.layers)

    def genes(self, method: str) -> frozenset[Gene]:
        """The genes that are read: without a base there is nothing to scale away from."""
        genes = merge_method(method).genes
        return genes if self.has_base else genes - {"scales"}

    def canonical(self, genome: Genome) -> Genome:
        """The one genome that stands for all recipes of the same model.

        Rows are in lowest terms, and equal where nothing is added to the base; genes that the method does not read, and
        hops where the path does not jump, are at their defaults. A merge of length 0 is the base; all the weight on one
        parent at length 1 is that parent.
        """
        genes = self.genes(genome.method)
        plain = Genome(genome.method, tuple(quantise_row(row) for row in genome.weights))
        if "weights" not in genes:
            plain = self.default(genome.method)
        if "path" in genes:
            hops = self._read_hops(genome) if "hops" in genes else ()
            method = genome.method if any(hop != UNIT for hop in hops) else "frankenmerge"
            return replace(plain, method=method, path=genome.path, hops=hops if method == "dfs" else ())
        read = {name: getattr(genome, name) for name in ("scales", "density", "alpha") if name in genes}
        kept = replace(plain, **read)
        if kept.scales:
            if set(kept.scales) == {0}:
                return self.base()
            rows = zip(kept.weights, kept.scales, strict=True)
            kept = replace(kept, weights=tuple(row if scale else (1,) * self.parents for row, scale in rows))
            if set(kept.scales) == {UNIT}:
                kept = replace(kept, scales=())
        row = kept.weights[0]
        alone = sum(row) == 1 and all(other == row for other in kept.weights)
        if alone and not kept.scales and kept.density == UNIT:
            return self.parent(row.index(1))
        return kept

    def _read_hops(self, genome: Genome) -> tuple[int, ...]:
        layers, hops, position = self.layer_path(genome), list(genome.hops), 0
        for slot, on in enumerate(genome.path):
            if not on or not is_jump(layers, position):
                hops[slot] = UNIT
            position += on
        return tuple(hops)

    def allows(self, genome: Genome) -> bool:
        """Whether a path genome has a layer at all and not more than `deepest`; True for every other genome."""
        return "path" not in merge_method(genome.method).genes or 0 < sum(genome.path) <= self.deepest

    def random(self, rng: np.random.Generator) -> Genome:
        """A genome drawn uniformly: method, weights on the simplex, scalars within their bounds; canonical."""
        method = self.methods[rng.integers(len(self.methods))]
        weights = tuple(quantise_row(row) for row in rng.dirichlet(np.ones(self.parents), self.groups))
        genome = Genome(
            method,
            weights,
            density=int(rng.integers(DENSITY[0], DENSITY[1] + 1)),
            scales=tuple(int(scale) for scale in rng.integers(SCALE[0], SCALE[1] + 1, self.groups)),
            alpha=int(rng.integers(ALPHA[0], ALPHA[1] + 1)),
        )
        if "path" in merge_method(method).genes:
            genome = replace(genome, path=self.random_path(rng), hops=self._random_hops(rng))
        return self.canonical(genome)

    def random_path(self, rng: np.random.Generator) -> tuple[int, ...]:
        """A parent's depth or up to `deepest`, at random slots."""
        depth = int(rng.integers(min(self.layers, self.deepest), self.deepest + 1))
        on = rng.choice(self.slots, size=min(depth, self.slots), replace=False)
        return tuple(int(slot in on) for slot in range(self.slots))

    def _random_hops(self, rng: np.random.Generator) -> tuple[int, ...]:
        return tuple(int(hop) for hop in rng.integers(HOP[0], HOP[1] + 1, self.slots))
