"""A genome in the words of a model card: enough to make the model again from its parents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .search.genome import UNIT, Genome
from .search.space import SearchSpace


def rows(genome: Genome, space: SearchSpace, names: Sequence[str], layer_groups: int) -> dict[str, str]:
    """Name → value: the weights and λ of each run of layers, the scalars that the method reads, and all genes as JSON."""
    genes = space.genes(genome.method)
    facts = {"method": genome.method}
    if "path" in genes:
        path = space.layer_path(genome)
        facts["layers"] = " · ".join(f"{names[parent]} {layer}" for parent, layer in path)
    for group in range(space.groups):
        shares = ", ".join(
            f"{name} {share:.2f}" for name, share in zip(names, genome.shares(group), strict=True)
        )
        step = f"; λ {genome.scale(group) / UNIT:.2f}" if "scales" in genes else ""
        facts[f"weights, {group_name(group, space, layer_groups)}"] = shares + step
    for scalar in ("density", "alpha"):
        if scalar in genes:
            facts[scalar] = f"{getattr(genome, scalar) / UNIT:.2f}"
    facts["genome"] = f"`{genome.hash}`"
    facts["genes"] = f"`{json.dumps(genome.to_json(), separators=(',', ':'))}`"
    return facts


def shares(genome: Genome, space: SearchSpace, names: Sequence[str], layer_groups: int) -> dict[str, Any]:
    """For the report: "groups", the rows of layers from below, and "parents", each one's share of every row.

    Of a layer path the rows are its layers, each of one parent, and what is no layer.
    """
    groups = [group_name(group, space, layer_groups) for group in range(space.groups)]
    table = [genome.shares(group) for group in range(space.groups)]
    if "path" in space.genes(genome.method):
        path = space.layer_path(genome)
        groups = [f"layer {layer}" for _, layer in path] + groups[layer_groups:]
        whole = [[float(parent == index) for index in range(space.parents)] for parent, _ in path]
        table = whole + table[layer_groups:]
    return {"groups": groups, "parents": {name: [row[i] for row in table] for i, name in enumerate(names)}}


def group_name(group: int, space: SearchSpace, layer_groups: int) -> str:
    """The layers of a row of weights; LayerStack.group says which they are."""
    if group == layer_groups:
        return "embedding, norm and head"
    members = [layer for layer in range(space.layers) if layer * layer_groups // space.layers == group]
    return f"layer {members[0]}" if len(members) == 1 else f"layers {members[0]} to {members[-1]}"
