"""Compiled pipelines with something wrong in them: a seeded change of the documents anywhere."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, float("inf"), float("nan"), "", "x", "..", "../../x", "/abs", "a" * 300, "\0",
    "\ud800", "{{$}}", "{{$.inputs.parameters['x']}}", '{"IfPresent": 1}', '{"Concat": []}', [], {}, [[]], {"x": 1},
    {1: 2}, b"x",
)  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def mutated(documents: list[Any], chance: random.Random) -> list[Any]:
    """The documents with one to three changes: something odd, gone, twice, or what stands elsewhere."""
    documents = copy.deepcopy(documents)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        everywhere = list(places(documents))
        tree, key = chance.choice(everywhere)
        other, name = chance.choice(everywhere)
        how = chance.randrange(5)
        if how == 0:
            tree[key] = copy.deepcopy(chance.choice(ODD))
        elif how == 1:
            del tree[key]
        elif how == 2:
            tree[key] = copy.deepcopy(other[name])
        elif isinstance(tree, dict):
            tree[chance.choice(["x", "..", "a/b", "\0", 7, str(name)])] = copy.deepcopy(tree[key])
            if how == 3:
                del tree[key]
        else:
            tree.append(copy.deepcopy(tree[key]))
    return documents
