"""One preset for each tensor: the least rise of the KL for the bytes.

Every tensor has points (bytes, rise), rise being that of the KL from the uncompressed model. Rises add up over tensors,
so the best allocation at a price λ a byte takes of each tensor the point of least rise + λ·bytes (Shoham and Gersho,
1988). As λ falls from infinity the allocation walks up the lower convex hulls, always taking the step that saves most a
byte: `frontier` is that walk, and each of its allocations is the best there is for its number of bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RatePoint:
    """A preset that a tensor may be given: its bytes, and the rise of the KL to expect of it, nats a token."""

    preset: str
    bytes: int
    kl_increase: float


@dataclass(frozen=True)
class Allocation:
    """A preset for every tensor, by the tensor's path; the bytes of all, and the rise of the KL to expect."""

    presets: Mapping[str, str]
    bytes: int
    kl_increase: float


def hull(points: Sequence[RatePoint]) -> list[RatePoint]:
    """The points on the lower convex hull, by rising bytes: the KL falls, and by less a byte from step to step."""
    best: list[RatePoint] = []
    for point in sorted(points, key=lambda p: (p.bytes, p.kl_increase, p.preset)):
        if best and point.kl_increase >= best[-1].kl_increase:
            continue  # more bytes for nothing
        while len(best) > 1 and slope(best[-2], point) >= slope(best[-2], best[-1]):
            best.pop()
        best.append(point)
    return best


def slope(cheaper: RatePoint, dearer: RatePoint) -> float:
    """KL saved for each byte more."""
    return (cheaper.kl_increase - dearer.kl_increase) / max(dearer.bytes - cheaper.bytes, 1e-9)


def frontier(tensors: Mapping[str, Sequence[RatePoint]]) -> list[Allocation]:
    """Every allocation that is best at some price, from the fewest bytes to the least KL.

    :param tensors: path → the presets that this tensor may be given, one at least.
    """
    hulls = {path: hull(points) for path, points in tensors.items()}
    presets = {path: points[0].preset for path, points in hulls.items()}
    total = sum(points[0].bytes for points in hulls.values())
    rise = sum(points[0].kl_increase for points in hulls.values())
    steps = [
        (-slope(*points[:2]), path, 1) for path, points in sorted(hulls.items()) if len(points) > 1
    ]  # fmt: skip
    heapq.heapify(steps)
    allocations = [Allocation(dict(presets), total, rise)]
    while steps:
        _, path, index = heapq.heappop(steps)
        points = hulls[path]
        presets[path] = points[index].preset
        total += points[index].bytes - points[index - 1].bytes
        rise += points[index].kl_increase - points[index - 1].kl_increase
        allocations.append(Allocation(dict(presets), total, rise))
        if index + 1 < len(points):
            heapq.heappush(steps, (-slope(points[index], points[index + 1]), path, index + 1))
    return allocations


def within(allocations: Sequence[Allocation], budget: int) -> Allocation | None:
    """The allocation of least KL that costs at most `budget` bytes; None when even the first costs more."""
    affordable = [allocation for allocation in allocations if allocation.bytes <= budget]
    return affordable[-1] if affordable else None
