"""Trellis-coded quantisation on the bitshift trellis (QTIP, arXiv 2406.11235), with a computed code. Decoding only.

A run of weights is a circular string of k bits a weight. The L bits that end with a weight's own are its state y, and
the weight is that state's value: neighbours share L − k bits, which is what makes 2^L values cost k bits each.

The value of a state is a normal quantile, of a rank found by integer hashing. The highest k bits of the rank are the
sum of the first k bits of y and of its last k: so the 2^k ways out of a state, and the 2^k ways into one, each lead to
one value in every one of 2^k equal parts of the distribution (Ungerboeck's rule for trellis codes). The other bits of
the rank are hashed from the first L − k bits of y. Quantiles are those of a binomial distribution, counted in integers:
the same on every platform.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .lossless import CodeError, count_of, octaves, unframe, unpack, unpack_fixed, unpack_numbers

CODEC, VERSION = 5, 1
DEVIATION = 128  # of the values, in which they are whole numbers
FINE = 8  # scales of groups, an octave


def quantiles(bits: int) -> np.ndarray:
    """(2^bits,) int64, rising: the quantiles of n fair coins, n = (2·DEVIATION)², around their mean."""
    half = 2 * DEVIATION**2
    term, terms = 1 << 36, []
    for i in range(8 * DEVIATION):
        terms.append(term)
        term = term * (half - i) // (half + 1 + i)
    terms[0] //= 2
    below = np.cumsum(terms)
    upper = np.searchsorted(below, (2 * np.arange(1 << bits >> 1, dtype=np.int64) + 1) * below[-1] >> bits)
    return np.concatenate([-upper[::-1], upper])


@lru_cache(maxsize=4)
def values(bits: int, memory: int) -> np.ndarray:
    """(2^memory,) int64: the value of every state for k = bits and L = memory."""
    state = np.arange(1 << memory, dtype=np.int64)
    first, last, rest = state >> (memory - bits), state & ((1 << bits) - 1), state >> bits
    free = memory - bits
    for multiplier in (0x2C1B3C6D, 0x297A2D39):
        rest = rest * multiplier & ((1 << free) - 1)
        rest ^= rest >> ((free + 1) // 2)
    rank = (first + last & ((1 << bits) - 1)) << free | rest
    return quantiles(memory)[rank]


def states(symbols: np.ndarray, bits: int, memory: int) -> np.ndarray:
    """Symbols (runs, length) of k bits → the state at every weight (runs, length) int64; a run's start follows its end."""
    y = np.zeros(symbols.shape, np.int64)
    for shift in range(-(-memory // bits)):
        y |= np.roll(symbols.astype(np.int64), shift, axis=1) << (shift * bits)
    return y & ((1 << memory) - 1)


def decode(code: bytes) -> np.ndarray:
    """A trellis code → the float32 weight in its own shape.

    :raises CodeError: the code was cut or altered, or is of another codec or version, or no encoder wrote its header.
    """
    head, unit, scales, packed = unframe(code, CODEC, VERSION)
    (bits, memory, height, length, group, lowest, kinds, *shape), _ = unpack_numbers(head)
    count = count_of(shape, code)
    if not 1 <= bits < memory <= 20 or length * bits < memory or (count and (not height or count % height)):
        raise CodeError(f"a trellis code with k={bits}, L={memory}, runs of {length} and columns of {height}")
    columns = count // height if count else 0
    per_column = -(-height // length)
    count_of((columns, per_column * length), code)
    runs = columns * per_column
    symbols = unpack_fixed(packed, runs * length, bits).reshape(runs, length)
    w = np.empty((runs, length), np.float64)
    for first_run in range(0, runs, 256):
        w[first_run : first_run + 256] = values(bits, memory)[
            states(symbols[first_run : first_run + 256], bits, memory)
        ]
    if group:
        parts = -(-length // group)
        index = unpack(scales, runs * parts, kinds).astype(np.int64) - lowest
        w *= np.repeat(octaves(index, FINE).reshape(runs, parts), min(group, length), axis=1)[:, :length]
    w *= np.float64(np.frombuffer(unit, "<f4")[0]) / DEVIATION
    matrix = w.reshape(columns, per_column * length)[:, :height] if count else w
    return np.ascontiguousarray(matrix.T, np.float32).reshape(shape)
