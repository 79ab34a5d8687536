"""SeedLM (arXiv 2410.10714): weights from the seeds of a linear-feedback shift register. Decoding only.

A block of C weights is U(s)·q·2^e: U (C, P) holds the states that a K-bit register passes through from seed s, read
row by row after each update and mapped to [−1, 1]; q are P 4-bit integers and e one 4-bit exponent. The sum of states
times q is exact in integers, then come one product and one rounding to float32: the same bits on every platform.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .lossless import CodeError, count_of, unframe, unpack, unpack_numbers

CODEC, VERSION = 2, 1
# x[n+K] = Σ x[n+j] over these j: primitive, so every non-zero seed lies on one cycle. 16 bits: the paper's.
TAPS = {
    2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 2), 6: (0, 1), 7: (0, 1), 8: (0, 2, 3, 4), 9: (0, 4), 10: (0, 3),
    11: (0, 2), 12: (0, 1, 4, 6), 13: (0, 1, 3, 4), 14: (0, 1, 3, 5), 15: (0, 1), 16: (0, 1, 3, 12),
}  # fmt: skip


@lru_cache(maxsize=4)
def cycle(bits: int) -> np.ndarray:
    """(2^bits − 1,) uint32: the states of the register from state 1 on, lowest bit first out."""
    states, state = np.empty((1 << bits) - 1, np.uint32), 1
    for i in range(len(states)):
        states[i] = state
        fed = 0
        for tap in TAPS[bits]:
            fed ^= state >> tap
        state = state >> 1 | (fed & 1) << (bits - 1)
    return states


@lru_cache(maxsize=4)
def cycle_positions(bits: int) -> np.ndarray:
    """(2^bits,) int64: where on the cycle a state lies (place 0 for the impossible state 0)."""
    position = np.zeros(1 << bits, np.int64)
    position[cycle(bits)] = np.arange((1 << bits) - 1)
    return position


def combine(
    seeds: np.ndarray, q: np.ndarray, e: np.ndarray, scale: float, block: int, bits: int
) -> np.ndarray:
    """Seeds (n,), integers q (n, P) in [−8, 7], exponents e (n,) in [−8, 7] → blocks (n, block) float32."""
    latent = q.shape[1]
    states, half = cycle(bits).astype(np.int64), 1 << (bits - 1)
    steps = 1 + np.arange(block * latent)
    out = np.empty((len(seeds), block), np.float32)
    factor = np.ldexp(float(scale) / (half - 1), e.astype(np.int64))
    at_once = max((1 << 19) // len(steps), 1)
    for start in range(0, len(seeds), at_once):
        part = slice(start, start + at_once)
        position = (cycle_positions(bits)[seeds[part]][:, None] + steps) % len(states)
        u = (states[position] - half).reshape(-1, block, latent)
        total = (u * q[part, None, :].astype(np.int64)).sum(axis=2)
        out[part] = total * factor[part, None]
    return out


def decode(code: bytes) -> np.ndarray:
    """A SeedLM code → the float32 weight in its own shape.

    :raises CodeError: the code was cut or altered, or is of another codec or version, or no encoder wrote its header.
    """
    head, scale, seeds, exponents, mantissas = unframe(code, CODEC, VERSION)
    (block, latent, bits, *shape), _ = unpack_numbers(head)
    if bits not in TAPS or not 256 >= block >= latent >= 1:
        raise CodeError(
            f"a SeedLM code with C={block}, P={latent}, K={bits}, which this version cannot have written"
        )
    count = count_of(shape, code)
    n = -(-count // block)
    q = unpack(mantissas, n * latent, 16).astype(np.int64).reshape(n, latent) - 8
    e = unpack(exponents, n, 16).astype(np.int64) - 8
    tensor_scale = float(np.frombuffer(scale, "<f4")[0])
    w = combine(unpack(seeds, n, 1 << bits), q, e, tensor_scale, block, bits)
    return w.reshape(-1)[:count].reshape(shape)
