"""The loops over pieces of task vectors, compiled: counts of magnitudes, random numbers, and the election of signs.

They do what torch would do in a dozen passes, in one or two, without the interpreter's lock, so that a second thread pays.
Every rounding is that of torch's operations, in their order: `add_` and `addcmul_` with a factor round once (a fused
multiplication and addition), everything else after each step. So no result depends on which of the two computed it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

LOW_BITS = 15
WAYS = 4  # counts side by side: equal numbers that follow each other would wait for each other's sum
BLOCK = 1024  # entries whose sums stay in the first-level cache
MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))  # of Philox
STEPS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))  # of its key
TINY = np.finfo(np.float32).tiny


def _typed(typing, a, b, c):  # type: ignore[no-untyped-def]
    """The signature of `fma`, and the function that writes its instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, a, a), generate


fma: Any = intrinsic(_typed)
"""a·b + c, rounded once; for numba code, of three float32."""


def _typed_product(typing, a, b):  # type: ignore[no-untyped-def]
    """The signature of `upper_half`, and the function that writes its instructions."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(factor, wide) for factor in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return a(a, a), generate


upper_half: Any = intrinsic(_typed_product)
"""The upper 64 bits of a·b; for numba code, of two uint64."""


@njit(cache=True, nogil=True)
def philox(key, counter, words):  # type: ignore[no-untyped-def]
    """Philox4x64 in ten rounds (Salmon et al., SC 2011), as numpy's generator of that name counts.

    key (2,) uint64; words (4·n,) uint64 become those of the n counters behind `counter`, a uint64.
    """
    for step in range(len(words) // 4):
        k0, k1 = key[0], key[1]
        c0, c1, c2, c3 = counter + np.uint64(1) + np.uint64(step), np.uint64(0), np.uint64(0), np.uint64(0)
        for _ in range(10):
            low0, low1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
            high0, high1 = upper_half(MULTIPLIERS[0], c0), upper_half(MULTIPLIERS[1], c2)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + STEPS[0], k1 + STEPS[1]
        place = words[4 * step : 4 * step + 4]
        place[0], place[1], place[2], place[3] = c0, c1, c2, c3


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
