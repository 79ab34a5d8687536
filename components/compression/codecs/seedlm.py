"""SeedLM (arXiv 2410.10714): weights as seeds of a pseudo-random generator. Encoding.

Every block w ∈ R^C is replaced by the seed s, the P 4-bit integers q and the shared exponent e that minimise
‖w − U(s)·q·2^e‖ over all 2^K − 1 seeds, as the paper does: t = U(s)⁺w, e = ⌈log2(max|t| / 7.5)⌉ and, unless told not
to, its two neighbours, q = round(t / 2^e). (The exponent printed in the paper wastes codes; this one does not.)

The search is exact and yet skips almost every seed. On the register's cycle, column p of U(s) is column 0 of U(s+p),
so Uᵀw for all seeds is one correlation d of w with the cycle; ‖w‖² − ‖R(s) d‖², with RᵀR = (UᵀU)⁻¹, is the error
before q is rounded, a lower bound of the error after; only seeds whose bound beats the incumbent are rounded: about
ten of 65,535. Bounds are in float32 with a margin above its rounding error; the seeds whose basis is too
ill-conditioned for that (or singular: states are linear over GF(2)) get theirs from an orthonormal basis instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from components.shared.models.remote_code.decode_seedlm import CODEC, TAPS, VERSION, cycle, decode

from ..coding.check import require_finite
from ..coding.lossless import frame, pack, pack_numbers
from .codec import Codec, CodecPreset

__all__ = ["bits_per_weight", "decode", "encode", "search"]

CONDITION = 64.0  # bases worse than this have no usable float32 bound
MARGIN = 3e-4  # of ‖w‖²: above the float32 error of a bound at that condition
TILE = 2048  # seeds whose tables stay in the cache while blocks pass by
CHECK = 64  # bounds looked at together
TOGETHER = 64  # blocks that share what a tile brings into the cache


def bits_per_weight(block: int, latent: int, bits: int) -> float:
    """(K + 4 + 4P) / C: what the paper counts; the entropy coding of e and q comes on top."""
    return (bits + 4 + 4 * latent) / block


def encode(w: np.ndarray, *, block: int = 8, latent: int = 3, bits: int = 16, beside: int = 1) -> bytes:
    """w, any shape, float32 → code. (block, latent, bits) = (C, P, K): (8, 3, 16) is 4-bit, (12, 4, 16) 3-bit.

    The paper has no scale of the tensor, and its 4-bit exponent reaches from 2^-8 to 2^7 only: blocks are normalised
    by the tensor's root mean square, which is stored. The last block is filled up with zeros. beside: the exponents tried
    on each side of e; 0 is the plain code.

    :raises InputError: w has NaN or infinite values, or no floating dtype.
    :raises ValueError: bits outside 2 … 16, or a latent outside 1 … block.
    """
    w = require_finite(w)
    if bits not in TAPS or not 1 <= latent <= block:
        raise ValueError(f"SeedLM needs 1 ≤ P ≤ C and K in 2…16; got C={block}, P={latent}, K={bits}")
    flat = w.reshape(-1).astype(np.float64)
    scale = np.float32(np.sqrt(np.mean(flat**2))) if flat.size else np.float32(0)
    blocks = np.zeros((-(-flat.size // block), block))
    blocks.reshape(-1)[: flat.size] = flat / np.float64(scale) if scale > 0 else 0.0
    seeds, q, e, _ = search(blocks, latent, bits, beside)
    return frame(
        CODEC,
        VERSION,
        [
            pack_numbers([block, latent, bits, *w.shape]),
            scale.astype("<f4").tobytes(),
            pack(seeds, 1 << bits),
            pack(e + 8, 16),
            pack(q + 8, 16),
        ],
    )


def search(
    blocks: np.ndarray, latent: int, bits: int, beside: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The best seed (n,), integers (n, latent), exponent (n,) and squared error (n,) of every block (n, C) float64.

    The same as rounding all seeds, each at 2·beside + 1 exponents.
    """
    n, block = blocks.shape
    run = kernel(block, latent)
    tables = bases(block, latent, bits)
    seeds, e = np.zeros(n, np.int64), np.zeros(n, np.int64)
    q, error = np.zeros((n, latent), np.int64), np.zeros(n)
    for start_block in range(0, n, TOGETHER):
        part = slice(start_block, start_block + TOGETHER)
        run(blocks[part], *tables, beside, seeds[part], q[part], e[part], error[part])
    return cycle(bits)[seeds].astype(np.int64), q, e, error


@lru_cache(maxsize=4)
def bases(block: int, latent: int, bits: int) -> tuple[np.ndarray, ...]:
    """What the search knows of every seed, by its position on the cycle.

    u (period + C·P + 2 TILE,) the cycle in [−1, 1], wrapped; u32 the same in float32; r (tiles, P(P+1)/2, TILE)
    float32, the rows of R(s); pinv (period, P, C), U⁺ with singular values below 1e-9 of the largest taken as zero;
    ill_conditioned (m,) their positions; spanning (m, P, C) float32, orthonormal rows that span the same as U.
    """
    states, half = cycle(bits), 1 << (bits - 1)
    period = len(states)
    u = np.resize((states.astype(np.float64) - half) / (half - 1), period + block * latent + 2 * TILE)
    whole = u[np.arange(period)[:, None] + 1 + np.arange(block * latent)].reshape(period, block, latent)
    gram = whole.transpose(0, 2, 1) @ whole
    values = np.linalg.eigvalsh(gram)
    well_conditioned = values[:, 0] * CONDITION**2 > values[:, -1]
    ill_conditioned = np.flatnonzero(~well_conditioned)
    u_left, sizes, v_right = np.linalg.svd(whole[ill_conditioned], full_matrices=False)
    nonzero = sizes > 1e-9 * sizes[:, :1]
    spanning = (u_left * nonzero[:, None, :]).transpose(0, 2, 1)
    pinv = np.empty((period, latent, block))
    pinv[ill_conditioned] = v_right.transpose(0, 2, 1) @ (
        spanning / np.where(nonzero, sizes, 1.0)[:, :, None]
    )
    inverse = np.linalg.inv(gram[well_conditioned])
    pinv[well_conditioned] = inverse @ whole[well_conditioned].transpose(0, 2, 1)
    upper = np.zeros((-(-period // TILE) * TILE, latent, latent), np.float32)
    upper[:period][well_conditioned] = np.linalg.cholesky(inverse).transpose(0, 2, 1)
    rows = np.stack([upper[:, i, j] for i in range(latent) for j in range(i, latent)])
    r = np.ascontiguousarray(rows.reshape(len(rows), -1, TILE).transpose(1, 0, 2))
    return u, u.astype(np.float32), r, pinv, ill_conditioned, spanning.astype(np.float32)


@lru_cache(maxsize=4)
def kernel(block: int, latent: int) -> Callable[..., Any]:
    """The search compiled for one (C, P): with both known, the inner loops unroll and vectorise over seeds.

    Four blocks share each load of the tables. Arrays inside are flat, so that LLVM can tell their rows apart; it is
    one function, for numba caches only closures over plain numbers.
    """
    from numba import njit

    C, P, SPAN = block, latent, TILE + 16 * -(-latent // 16)

    @njit(cache=True, nogil=True, fastmath={"contract"})
    def run(blocks, u, u32, r, pinv, ill_conditioned, spanning, beside, seeds, q, exponents, errors):  # type: ignore[no-untyped-def]
        n, period = len(blocks), len(pinv)
        unit = np.zeros((n + 3, C), np.float32)
        length = np.zeros(n)
        for i in range(n):
            for k in range(C):
                length[i] += blocks[i, k] ** 2
            for k in range(C):
                unit[i, k] = blocks[i, k] / np.sqrt(length[i]) if length[i] > 0 else 0.0
            errors[i], exponents[i] = length[i], -8  # q = 0 is the incumbent to beat
        t, trial = np.empty(P), np.empty(P)
        d, explained = np.empty(4 * SPAN, np.float32), np.empty(4 * TILE, np.float32)
        next_ill = 0
        for tile in range(len(r)):
            start = tile * TILE
            last = min(TILE, period - start)
            first_ill = next_ill
            while next_ill < len(ill_conditioned) and ill_conditioned[next_ill] < start + last:
                next_ill += 1
            v, rows = u32[start + 1 :], r[tile]
            for four in range(0, n, 4):
                w = unit[four : four + 4].reshape(-1)
                for i in range(SPAN):  # d ← Uᵀw, by position
                    a = b = c = e = np.float32(0)
                    for k in range(C):
                        x = v[i + k * P]
                        a += w[k] * x
                        b += w[C + k] * x
                        c += w[2 * C + k] * x
                        e += w[3 * C + k] * x
                    d[i] = a
                    d[SPAN + i] = b
                    d[2 * SPAN + i] = c
                    d[3 * SPAN + i] = e
                for i in range(TILE):  # explained ← ‖R d‖²
                    sa = sb = sc = se = np.float32(0)
                    k = 0
                    for row in range(P):
                        a = b = c = e = np.float32(0)
                        for column in range(row, P):
                            x = rows[k, i]
                            a += x * d[i + column]
                            b += x * d[SPAN + i + column]
                            c += x * d[2 * SPAN + i + column]
                            e += x * d[3 * SPAN + i + column]
                            k += 1
                        sa += a * a
                        sb += b * b
                        sc += c * c
                        se += e * e
                    explained[i] = sa
                    explained[TILE + i] = sb
                    explained[2 * TILE + i] = sc
                    explained[3 * TILE + i] = se
                for j in range(first_ill, next_ill):
                    sa = sb = sc = se = np.float32(0)
                    for row in range(P):
                        a = b = c = e = np.float32(0)
                        for k in range(C):
                            x = spanning[j, row, k]
                            a += x * w[k]
                            b += x * w[C + k]
                            c += x * w[2 * C + k]
                            e += x * w[3 * C + k]
                        sa += a * a
                        sb += b * b
                        sc += c * c
                        se += e * e
                    i = ill_conditioned[j] - start
                    explained[i] = sa
                    explained[TILE + i] = sb
                    explained[2 * TILE + i] = sc
                    explained[3 * TILE + i] = se
                for index in range(four, min(four + 4, n)):
                    if length[index] == 0:
                        continue
                    bound = explained[(index - four) * TILE : (index - four + 1) * TILE]
                    least = np.float32(1 - errors[index] / length[index] - MARGIN)
                    for first in range(0, last, CHECK):
                        passed = 0
                        for i in range(first, first + CHECK):
                            passed += bound[i] >= least
                        if not passed:
                            continue
                        for i in range(first, min(first + CHECK, last)):
                            if bound[i] < least:
                                continue
                            position = start + i
                            top = 0.0
                            for p in range(P):
                                t[p] = 0.0
                                for k in range(C):
                                    t[p] += pinv[position, p, k] * blocks[index, k]
                                top = max(top, abs(t[p]))
                            middle = np.ceil(np.log2(top / 7.5)) if top > 0 else -8.0
                            for step in range(-beside, beside + 1):
                                exponent = min(max(middle + step, -8.0), 7.0)
                                scale = 2.0**exponent
                                error = 0.0
                                for p in range(P):
                                    trial[p] = min(max(np.rint(t[p] / scale), -8.0), 7.0)
                                for k in range(C):
                                    value = 0.0
                                    for p in range(P):
                                        value += u[position + 1 + k * P + p] * trial[p]
                                    error += (blocks[index, k] - value * scale) ** 2
                                if error < errors[index]:
                                    errors[index], exponents[index], seeds[index] = (
                                        error,
                                        int(exponent),
                                        position,
                                    )
                                    for p in range(P):
                                        q[index, p] = int(trial[p])
                                    least = np.float32(1 - error / length[index] - MARGIN)

    return run


PRESETS = (
    CodecPreset("seedlm 4", "seedlm", 3.65, {"block": 8, "latent": 3, "beside": 0}),
    CodecPreset("seedlm 3", "seedlm", 2.75, {"block": 12, "latent": 4, "beside": 0}),
    CodecPreset("seedlm 2", "seedlm", 1.85, {"block": 16, "latent": 3, "beside": 0}),
    CodecPreset("seedlm 1.5", "seedlm", 1.4, {"block": 24, "latent": 4, "beside": 0}),
)
CODECS = (Codec("seedlm", "SeedLM", "Shafipour et al., arXiv 2410.10714", encode, PRESETS),)
