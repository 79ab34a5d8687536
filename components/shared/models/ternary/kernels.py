"""Products of ternary weights and int8 activations on the CPU, exact in integers.

y = W x of BitNet b1.58 (arXiv 2402.17764) has W ∈ s·{−1, 0, 1} and x rounded to int8 for each token, so that everything
between two scales is a sum of small integers. A weight is kept as the digit trit + 1 in two bits:

    Σ trit · x = Σ digit · x − Σ x

A group of 256 weights of a row is 64 bytes; byte j holds the weights j, 64 + j, 128 + j and 192 + j, lowest bits first, so
that a shift and a mask turn 64 bytes into 64 digits that lie beside their activations. Rows end in a whole group; the
activations there are 0.

All KERNELS do the same: those that are made of instructions for this very purpose, of AVX-512 and AVX2, where the
processor has them (tiles.py), and `portable`, plain loops that LLVM vectorises for whatever is there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit

from . import tiles
from .tiles import Kernel

GROUP = 256
PARALLEL = 1 << 23
"""Multiplications below which more threads cost more than they save."""


@dataclass(frozen=True)
class Packed:
    """A ternary matrix (rows, columns): two bits a weight, (rows, ⌈columns / 256⌉ · 64) uint8, and its scale."""

    digits: np.ndarray
    columns: int
    scale: float

    @property
    def nbytes(self) -> int:
        """Bytes of the packed digits."""
        return self.digits.nbytes


def pack(trits: np.ndarray, scale: float) -> Packed:
    """Pack trits (rows, columns) of −1, 0 and 1, any dtype, into two bits each.

    :raises ValueError: one is another number.
    """
    rows, columns = trits.shape
    if trits.size and (trits.min() < -1 or trits.max() > 1):
        raise ValueError(f"trits are −1, 0 and 1, not {trits.min()} to {trits.max()}")
    groups = -(-columns // GROUP)
    digits = np.zeros((rows, groups * GROUP), np.uint8)
    digits[:, :columns] = trits.astype(np.int8) + 1
    parts = digits.reshape(rows, groups, 4, GROUP // 4)
    packed = parts[:, :, 0] | parts[:, :, 1] << 2 | parts[:, :, 2] << 4 | parts[:, :, 3] << 6
    return Packed(np.ascontiguousarray(packed.reshape(rows, -1)), columns, float(scale))


@njit(cache=True, nogil=True)
def quantise(x: np.ndarray, q: np.ndarray, scales: np.ndarray, sums: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """Quantise each token by its absolute maximum, as ternary.quantise_activations does it.

    x (M, K) float32 → q (M, ≥ K) int8, its padding left as it is; scales (M,) float32, 127 / max |x|, NaN where x has a
    value that is no finite number; sums (M,) int32, Σ q.
    """
    bits = x.view(np.int32)
    for m in range(x.shape[0]):
        top = np.int32(0)  # |x| as integers are in the order of |x|, and that maximum LLVM vectorises
        for k in range(x.shape[1]):
            top = max(top, bits[m, k] & np.int32(0x7FFFFFFF))
        if top >= np.int32(0x7F800000):
            scales[m] = np.nan
            q[m, : x.shape[1]] = 0
            sums[m] = 0
            continue
        largest = np.array([top], np.int32).view(np.float32)[0]
        scale = np.float32(1) / max(largest, np.float32(1e-5)) * np.float32(127)  # as torch divides a number
        total = np.int32(0)
        for k in range(x.shape[1]):
            value = np.int8(np.rint(x[m, k] * scale))
            q[m, k] = value
            total += np.int32(value)
        scales[m], sums[m] = scale, total


@njit(cache=True, nogil=True)
def portable(packed, x, out, first, last):  # type: ignore[no-untyped-def]
    """Unpack a row, multiply it with all tokens: a Kernel."""
    size = packed.shape[1]
    row = np.empty((size // 64, 4, 64), np.int8)
    flat = row.reshape(-1)
    for n in range(first, last):
        for group in range(size // 64):
            for part in range(4):
                for j in range(64):
                    row[group, part, j] = np.int8((packed[n, 64 * group + j] >> np.uint8(2 * part)) & 3)
        for m in range(x.shape[0]):
            total = np.int32(0)
            for k in range(4 * size):
                total += np.int32(flat[k]) * np.int32(x[m, k])
            out[m, n] = total


@njit(cache=True, nogil=True)
def restore(out, scales, sums, scale, y):  # type: ignore[no-untyped-def]
    """Write y (M, N) float32 = (out − Σ x) · scale / scales[m]."""
    for m in range(out.shape[0]):
        factor, total = np.float32(scale / scales[m]), sums[m]
        for n in range(out.shape[1]):
            y[m, n] = np.float32(out[m, n] - total) * factor


KERNELS: dict[str, Kernel] = tiles.KERNELS | {"portable": portable}
"""What this processor can run, the fastest first."""


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ternary")


def multiply(weight: Packed, x: np.ndarray, *, threads: int = 1, using: Kernel | None = None) -> np.ndarray:
    """The product y (M, N) float32 = Q(x) Wᵀ, Q the int8 quantisation of each token.

    A token with a value that is no finite number gives NaN, as in floating point.

    :param x: (M, K) float32, C-contiguous.
    :param using: a kernel; left out: the fastest that this processor can run.
    :raises ValueError: K is not the weight's number of columns.
    """
    tokens, rows = len(x), len(weight.digits)
    if x.shape[1] != weight.columns:
        raise ValueError(f"{x.shape[1]} activations for rows of {weight.columns} weights")
    run = using or next(iter(KERNELS.values()))
    q = np.zeros((tokens, 4 * weight.digits.shape[1]), np.int8)
    scales, sums = np.empty(tokens, np.float32), np.empty(tokens, np.int32)
    quantise(x, q, scales, sums)
    out, y = np.empty((tokens, rows), np.int32), np.empty((tokens, rows), np.float32)
    if threads > 1 and tokens * weight.digits.size * 4 >= PARALLEL:
        step = -(-rows // (8 * threads)) * 8
        parts = [(start, min(start + step, rows)) for start in range(0, rows, step)]
        list(_pool(threads).map(lambda part: run(weight.digits, q, out, *part), parts))
    else:
        run(weight.digits, q, out, 0, rows)
    restore(out, scales, sums, np.float32(weight.scale), y)
    return y
