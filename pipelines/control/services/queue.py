"""The order in which runs begin: by priority, then by whose turn it is, then by age; and who begins now.

Whoever waits gains a step of priority every ten minutes, so that nobody waits for ever behind more important ones. What the
first in the order lacks is kept for it: those behind it begin only with what it has no use for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .pools import Demand, Grant, Pools

STEP_SECONDS = 600.0
"""So long one waits for a step of priority."""


@dataclass(frozen=True)
class Waiting:
    """A run in the queue.

    :param waited: seconds.
    :param anywhere: it needs nothing of this machine: it runs on a cluster.
    """

    run: str
    owner: str
    priority: int
    created: float
    waited: float
    demand: Demand
    anywhere: bool = False


def ordered(waiting: Sequence[Waiting], running: Mapping[str, int]) -> list[Waiting]:
    """The queue, the next one first.

    :param running: how many runs of each owner go on now: who has fewer comes first among equals.
    """
    turns: Counter[str] = Counter(running)
    order: list[Waiting] = []
    left = sorted(waiting, key=lambda one: (one.created, one.run))
    while left:
        best = min(left, key=lambda one: (-_rank(one), turns[one.owner], one.created, one.run))
        left.remove(best)
        turns[best.owner] += 1
        order.append(best)
    return order


def beginning(order: Sequence[Waiting], pools: Pools) -> tuple[dict[str, Grant], dict[str, str]]:
    """Who begins now, with what; and of all others what they wait for.

    :param order: see `ordered`.
    """
    free = pools.free()
    begin: dict[str, Grant] = {}
    why: dict[str, str] = {}
    others_want = [one.run for one in order if one.demand.gpus and not one.anywhere]
    for one in order:
        if one.anywhere:
            begin[one.run] = Grant()
            continue
        demand = pools.possible(one.demand)
        lacking = pools.lacking(demand, free)
        if not lacking:
            alone = others_want == [one.run]
            begin[one.run] = free.take(demand, demand.slots - demand.gpus if alone and demand.gpus else 0)
            continue
        ahead = next(iter(why), "")
        why[one.run] = f"{lacking}; after {ahead}" if ahead else lacking
        free.reserve(demand)
    return begin, why


def _rank(one: Waiting) -> int:
    return one.priority + int(one.waited // STEP_SECONDS)
