"""Where the batches of a training step come from: a mixture of tasks, cells at the edge of chaos, dreams."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from components.shared.tasks.batches import Batch, without_scratch
from components.shared.tasks.item import Item
from components.shared.tasks.room import Room

from .dreaming import replay
from .edge_of_chaos import Edge

Part = tuple[list[int], Batch]
"""Rows of like length, and the indices of their items among the step's; dreams have none."""


class StepBatches(NamedTuple):
    """What a step learns from: the task and level of each of its items, and the rows of items and dreams."""

    cells: list[tuple[str, int]]
    parts: list[Part]


def items_at_the_edge(
    edge: Edge, count: int, scratch: float, room: Room, *, stage: str, seed: int, step: int
) -> list[Item]:
    """Items of the cells that the edge chooses: a function of (stage, seed, step) and of the edge's rates.

    :param count: items.
    :param scratch: share of them that show their worked steps.
    :param room: of the model.
    """
    rng = random.Random(f"{stage}/{seed}/{step}")
    cells = edge.choose(count, rng)
    items = [
        room.sample(task, "train", level, step * count + row, seed) for row, (task, level) in enumerate(cells)
    ]
    return [item if rng.random() < scratch else without_scratch(item) for item in items]


def dreams_in_a_step(share: float, batch: int) -> int:
    """How many of the `batch` rows are dreamt: at least one, and at least one item stays real."""
    return max(1, min(batch - 1, round(share * batch)))


def dreamt_part(
    dreams: Sequence[list[list[int]]], count: int, padding: int, *, stage: str, seed: int, step: int
) -> Part:
    """`count` of the dreams as rows: a function of (stage, seed, step).

    :param padding: id that fills rows up.
    """
    rng = random.Random(f"{stage}/{seed}/{step}/dreams")
    return [], replay(rng.choices(dreams, k=count), padding)
