"""A genome in the words of a model card: enough to make the model again from its parents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .search.genome import UNIT, Genome
from .search.space import Space


def rows(genome: Genome, space: Space, names: Sequence[str], layer_groups: int) -> dict[str, str]:
    """Name → value: the weights and λ of each run of layers, the dials that the method reads, and all genes as JSON."""
    genes = space.genes(genome.method)
    found = {"method": genome.method}
    if "path" in genes:
        places = space.places(genome)
        found["layers"] = " · ".join(f"{names[parent]} {layer}" for parent, layer in places)
    for group in range(space.groups):
        shares = ", ".join(
            f"{name} {share:.2f}" for name, share in zip(names, genome.shares(group), strict=True)
        )
        step = f"; λ {genome.scale(group) / UNIT:.2f}" if "scales" in genes else ""
        found[f"weights, {group_name(group, space, layer_groups)}"] = shares + step
    for dial in ("density", "alpha"):
        if dial in genes:
            found[dial] = f"{getattr(genome, dial) / UNIT:.2f}"
    found["genome"] = f"`{genome.hash}`"
    found["genes"] = f"`{json.dumps(genome.to_json(), separators=(',', ':'))}`"
    return found


def shares(genome: Genome, space: Space, names: Sequence[str], layer_groups: int) -> dict[str, Any]:
    """For the report: "groups", the rows of layers from below, and "parents", each one's share of every row.

    Of a layer path the rows are its places, each of one parent, and what is no layer.
    """
    groups = [group_name(group, space, layer_groups) for group in range(space.groups)]
    table = [genome.shares(group) for group in range(space.groups)]
    if "path" in space.genes(genome.method):
        places = space.places(genome)
        groups = [f"layer {layer}" for _, layer in places] + groups[layer_groups:]
        whole = [[float(parent == index) for index in range(space.parents)] for parent, _ in places]
        table = whole + table[layer_groups:]
    return {"groups": groups, "parents": {name: [row[i] for row in table] for i, name in enumerate(names)}}


def group_name(group: int, space: Space, layer_groups: int) -> str:
    """The layers of a row of weights; LayerStack.group says which they are."""
    if group == layer_groups:
        return "embedding, norm and head"
    mine = [layer for layer in range(space.layers) if layer * layer_groups // space.layers == group]
    return f"layer {mine[0]}" if len(mine) == 1 else f"layers {mine[0]} to {mine[-1]}"
