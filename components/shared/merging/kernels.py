"""The loops over pieces of task vectors, compiled: counts of magnitudes, and the election of signs.

They do what torch would do in a dozen passes, in one or two, without the interpreter's lock, so that a second thread pays.
Every rounding is that of torch's operations, in their order: `add_` and `addcmul_` with a factor round once (a fused
multiplication and addition), everything else after each step. So no result depends on which of the two computed it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic

LOW_BITS = 15
WAYS = 4  # counts side by side: equal numbers that follow each other would wait for each other's sum
BLOCK = 1024  # entries whose sums stay in the first-level cache
TINY = np.finfo(np.float32).tiny


def _typed(typing, a, b, c):  # type: ignore[no-untyped-def]
    """The signature of `fma`, and the function that writes its instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, a, a), generate


fma: Any = intrinsic(_typed)
"""a·b + c, rounded once; for numba code, of three float32."""


@njit(cache=True, nogil=True)
def count_upper(numbers, counts):  # type: ignore[no-untyped-def]
    """Count float32 numbers by the upper sixteen bits of their magnitude. counts: (WAYS, 2^16) int64, added to."""
    bits = numbers.view(np.uint32)
    whole = len(bits) // WAYS * WAYS
    for at in range(0, whole, WAYS):
        for way in range(WAYS):
            counts[way, (bits[at + way] & np.uint32(0x7FFFFFFF)) >> np.uint32(LOW_BITS)] += 1
    for at in range(whole, len(bits)):
        counts[0, (bits[at] & np.uint32(0x7FFFFFFF)) >> np.uint32(LOW_BITS)] += 1


@njit(cache=True, nogil=True)
def count_lower(numbers, upper, counts):  # type: ignore[no-untyped-def]
    """Of the float32 numbers of one bin of `count_upper`, count the lower bits. counts: (2^15,) int64, added to."""
    first = np.uint32(upper << LOW_BITS)
    bits = numbers.view(np.uint32)
    for at in range(len(bits)):
        beyond = np.uint32((bits[at] & np.uint32(0x7FFFFFFF)) - first)
        if beyond < np.uint32(1 << LOW_BITS):
            counts[beyond] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def add_elected(tasks, weights, least, normalize, scale, base, out):  # type: ignore[no-untyped-def]
    """TIES (arXiv 2306.01708, algorithm 1) of task vectors (N, n), added to the base (n,); all of it float32.

    weights and least (N,): entries whose magnitude is below `least` are 0. Where they are to be normalised, the sum of
    what agrees with the elected sign is divided by its weights. out (n,) is base + scale · that.
    """
    score, total, votes = (
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
    )
    zero, one = np.float32(0), np.float32(1)
    for first in range(0, len(base), BLOCK):
        size = min(BLOCK, len(base) - first)
        score[:] = zero
        total[:] = zero
        votes[:] = zero
        for parent in range(len(tasks)):
            task, weight, bar = tasks[parent][first : first + size], weights[parent], least[parent]
            for i in range(size):
                kept = zero if abs(task[i]) < bar else task[i]
                score[i] = fma(kept, weight, score[i])
        for parent in range(len(tasks)):
            task, weight, bar = tasks[parent][first : first + size], weights[parent], least[parent]
            for i in range(size):
                kept = zero if abs(task[i]) < bar else task[i]
                agrees = one if ((kept > 0) & (score[i] > 0)) | ((kept < 0) & (score[i] < 0)) else zero
                total[i] += weight * kept * agrees  # a nan stays one
                votes[i] += weight * agrees
        start, result = base[first : first + size], out[first : first + size]
        for i in range(size):
            mean = total[i] / max(votes[i], TINY) if normalize else total[i]
            result[i] = mean * scale + start[i]
