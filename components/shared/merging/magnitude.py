"""The magnitude that a share of a task vector reaches, exactly and without holding the vector.

The bits of a non-negative float32, read as an integer, are in the order of the numbers. So the k-th largest
magnitude is found by counting: one pass over the upper sixteen bits, a second over the lower fifteen of the
one bin that holds it. Two passes over the tensors (one where they are small), 2 MB of counts, no sort, for a vector of
any length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor

from .kernels import LOW_BITS, WAYS, count_lower, count_upper

HELD = 1 << 20  # numbers that are kept from the first pass for the second: 4 MB


def threshold(tensors: Callable[[], Iterable[Tensor]], density: float, *, down: bool = False) -> float:
    """The smallest magnitude among the ⌈density·n⌉ largest of n numbers; down: ⌊density·n⌋, and at least one.

    Keeping every entry whose magnitude is at least the answer keeps that many (more at ties).

    :param tensors: called twice, each time yields the same float tensors (a task vector in pieces).
    :param density: in (0, 1].
    :raises ValueError: a density outside (0, 1], no numbers, or numbers that are not finite.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}")
    if down:
        return _select(tensors, lambda count: max(1, math.floor(density * count)))
    return _select(tensors, lambda count: math.ceil(density * count))


def nth_largest(tensors: Callable[[], Iterable[Tensor]], rank: int) -> float:
    """The rank-th largest magnitude; otherwise as `threshold`.

    :param tensors: called twice, each time yields the same float tensors.
    :param rank: 1-based.
    :raises ValueError: there is no such rank, or numbers are not finite.
    """
    return _select(tensors, lambda count: rank)


def _select(tensors: Callable[[], Iterable[Tensor]], rank_of: Callable[[int], int]) -> float:
    counts = np.zeros((WAYS, 1 << 16), np.int64)
    held: list[np.ndarray] = []
    count = 0
    for tensor in tensors():
        numbers = _flat(tensor)
        count_upper(numbers, counts)
        count += len(numbers)
        if count <= HELD:
            held.append(numbers)
        else:
            held.clear()
    high = counts.sum(axis=0)
    if count == 0:
        raise ValueError("a task vector without numbers has no threshold")
    if high[0x7F800000 >> LOW_BITS :].any():
        raise ValueError("the task vector holds numbers that are not finite")
    rank = rank_of(count)
    if not 1 <= rank <= count:
        raise ValueError(f"there is no largest number {rank} of {count}")
    upper, above = _rank_from_top(high, rank)
    low = np.zeros(1 << LOW_BITS, np.int64)
    for again in held or map(_flat, tensors()):
        count_lower(again, upper, low)
    lower, _ = _rank_from_top(low, rank - above)
    return float(np.uint32(upper << LOW_BITS | lower).view(np.float32))


def _flat(tensor: Tensor) -> np.ndarray:
    numbers: np.ndarray = tensor.detach().float().cpu().contiguous().view(-1).numpy()
    return numbers


def _rank_from_top(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin that holds the rank-th largest (1-based), and how many lie in the bins above it."""
    from_top = counts[::-1].cumsum()
    position = int(np.searchsorted(from_top, rank))
    above = int(from_top[position - 1]) if position else 0
    return len(counts) - 1 - position, above
