"""Randomised Hadamard transform of a matrix (QuIP#, arXiv 2402.04396, section 3), undone. Decoding only.

Rows and columns are each multiplied by signs ±1 and a Hadamard matrix, an orthogonal change that leaves squared errors
as they are and makes any weights nearly normal, outliers spread over all. A size that is no power of two is transformed
in two blocks of the largest power of two that fits, the first entries and then the last: they overlap, so everything
mixes. Sums of two and products with constants in float64, in one order: the same on every platform.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .lossless import unframe, unpack_numbers

CODEC, VERSION = 7, 1


def signs(seed: int, n: int) -> np.ndarray:
    """(n,) float64 of ±1, a function of the seed: the top bits of splitmix64's outputs from state seed · 2^32 on."""
    z = (np.uint64(seed) << np.uint64(32)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ z >> np.uint64(shift)) * np.uint64(factor)
    return 1.0 - 2.0 * ((z ^ z >> np.uint64(31)) >> np.uint64(63)).astype(np.float64)


def hadamard(x: np.ndarray) -> np.ndarray:
    """Rows x (rows, 2^m) float64 → x·H / √(2^m), H Sylvester's Hadamard matrix: its own inverse."""
    rows, n = x.shape
    half = 1
    while half < n:
        pairs = x.reshape(rows, n // (2 * half), 2, half)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    return x.reshape(rows, n) / np.sqrt(float(n))


def transform_rows(x: np.ndarray, seed: int, inverse: bool) -> np.ndarray:
    """Rows x (rows, n) float64 transformed; or, with `inverse`, as they were before."""
    n = x.shape[1]
    if n < 2:
        return x
    block = 1 << (n.bit_length() - 1)
    steps = [slice(0, block)] + [slice(n - block, n)] * (block < n)
    x = np.array(x)
    for number, part in reversed(list(enumerate(steps))) if inverse else enumerate(steps):
        sign = signs(2 * seed + number, block)
        x[:, part] = hadamard(x[:, part]) * sign if inverse else hadamard(x[:, part] * sign)
    return x


def transform_matrix(matrix: np.ndarray, seed: int, inverse: bool = False) -> np.ndarray:
    """Rows and columns of a matrix (out, in) transformed, or turned back. float64."""
    return transform_rows(
        transform_rows(matrix.astype(np.float64), 2 * seed, inverse).T, 2 * seed + 1, inverse
    ).T


def decode(code: bytes, inner: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """A code of transformed weights → the float32 weight in its own shape.

    :param inner: the decoder of what is in the frame.
    :raises CodeError: the code was cut or altered, or is of another codec or version; or as `inner` does.
    """
    head, coded = unframe(code, CODEC, VERSION)
    (seed, *shape), _ = unpack_numbers(head)
    return transform_matrix(inner(coded), seed, inverse=True).astype(np.float32).reshape(shape)
