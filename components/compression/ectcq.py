"""Entropy-coded trellis-coded quantisation (Fischer and Wang, IEEE Trans. IT 38, 1992). Encoding.

Viterbi's algorithm takes the path of least (w/Δ − level)² + λ·bits through the trellis that hub/decode_ectcq.py
describes, bits being what the entropy coder will ask: tables and path are found in turn, on a sample of the runs, the
path of all runs then in one pass. Of the 1.53 dB that a scalar quantiser loses at high rates 256 states leave .2, 8
states .44 (Marcellin and Fischer, 1990). A step gives any rate.

With a Hessian runs go down the columns, and the error of each column is carried on as GPTQ does (hessian.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from components.shared.models.hub.decode_ectcq import (
    COARSE,
    CODEC,
    CODES,
    VERSION,
    decode,
    levels,
    machine,
    slots,
)
from components.shared.models.hub.lossless import LOW, SCALE, frequencies

from .check import finite
from .hessian import round_columns
from .lossless import frame, numbers
from .trellis import cut

__all__ = ["decode", "encode"]

RUN = 4096  # weights at most
LANES = 64  # beyond them lanes grow longer before there are more: a lane's state costs three bytes
LANE = (1 << 12, 1 << 14)  # weights at least and at most
SAMPLE = 1 << 16  # weights on which the tables are found
ROUNDS = 4
PRICE = 0.07  # λ for a bit, in squares of `step`: the best of .04, .06, .08 is near here for every rate and machine


def encode(
    w: np.ndarray,
    hessian: np.ndarray | None = None,
    *,
    step: float,
    memory: int = 3,
    price: float = PRICE,
    threads: int = 1,
) -> bytes:
    """w, any shape, float32 → code. step: 2Δ, in units of the root mean square of w. memory: ν of 2^ν states.

    hessian (in, in) goes with a matrix (out, in). price: λ, what a bit is worth, in squares of `step`.
    """
    w = finite(w)
    if memory not in CODES or not 1e-3 <= step <= 1e3 or price < 0:
        raise ValueError(f"ECTCQ needs ν in 2…8, a step in .001…1000, λ ≥ 0; got {memory}, {step}, {price}")
    height = w.size if hessian is None else len(w)
    columns = w.size // height if height else 0
    matrix = w.reshape(height, columns).astype(np.float64)
    unit = np.sqrt((matrix**2).mean()) * step / 2 if matrix.any() else 1.0
    matrix = matrix / unit
    length = max(-(-height // max(-(-height // RUN), 1)), 1)
    runs = cut(matrix, length)
    sample = runs[:: max(runs.size // SAMPLE, 1)]
    bits = first_guess(step)
    for _ in range(ROUNDS):
        index, quantiser = search(sample, bits, 4 * price, memory, threads)
        escape, tables, bits = measured(index, quantiser, runs.size)
    per_column = len(runs) // columns if columns else 0
    index = np.zeros((columns, per_column, length), np.int64)
    quantiser = np.zeros_like(index)
    decoded = np.zeros(matrix.shape)

    def quantise(column: np.ndarray, j: int) -> np.ndarray:
        index[j], quantiser[j] = search(cut(column[:, None], length), bits, 4 * price, memory, threads)
        decoded[:, j] = levels(index[j], quantiser[j]).reshape(-1)[: len(column)]
        return decoded[:, j]

    round_columns(matrix, hessian, quantise)
    if hessian is None and decoded.any():
        unit *= (matrix * decoded).sum() / (decoded**2).sum()  # the step of least error
    index, quantiser = index.reshape(-1, length), quantiser.reshape(-1, length)
    escape, tables, _ = measured(index, quantiser, index.size)
    lane = min(max(index.size // LANES, LANE[0]), LANE[1])
    lanes = max(min(index.size // lane, len(index)), 1)
    magnitude = np.abs(index)
    head = [memory, height, length, lanes, escape, *w.shape]
    return frame(
        CODEC,
        VERSION,
        [
            numbers(head),
            np.float32(unit if matrix.any() else 0.0).astype("<f4").tobytes(),
            numbers(tables.reshape(-1)),
            pack_runs(index, quantiser, lanes, escape, tables),
            numbers((magnitude[magnitude >= escape] - escape) // 2),
        ],
    )


def shown(magnitude: np.ndarray, escape: int) -> np.ndarray:
    """What the tables see of a magnitude: itself, or from `escape` on one of two symbols, by parity."""
    return np.where(magnitude < escape, magnitude, escape + (magnitude - escape & 1))


def first_guess(step: float) -> np.ndarray:
    """(2, M) bits of a magnitude, sign included, for normal weights under a quantiser of this step."""
    magnitude = np.arange(min(int(8 / step) + 3, 128))
    bits = (magnitude * step) ** 2 / 2 * np.log2(np.e) + np.log2(np.sqrt(2 * np.pi) / min(step, 2.0))
    return np.tile(np.maximum(bits, 0.05), (2, 1))


def measured(index: np.ndarray, quantiser: np.ndarray, size: int) -> tuple[int, np.ndarray, np.ndarray]:
    """`escape`, the tables (2, escape + 2) of frequencies and the bits (2, escape + 2) that magnitudes cost.

    Rare magnitudes escape: their places in the tables would cost more. size: of the whole that the tables are for.
    """
    magnitude = np.abs(index).reshape(-1)
    counts = np.bincount(magnitude) if len(magnitude) else np.ones(1, np.int64)
    tail = counts[::-1].cumsum()[::-1]  # as large or larger
    common = int((tail > max(len(magnitude) / 4096, 3 * len(magnitude) / max(size, 1))).sum())
    escape = min(max(common, 1), 126)
    symbols = shown(magnitude, escape)
    tables = np.stack(
        [
            frequencies(
                np.bincount(symbols[quantiser.reshape(-1) == which], minlength=escape + 2), 1 << COARSE
            )
            for which in (0, 1)
        ]
    )
    bits = COARSE - np.log2(np.maximum(tables, 0.5)) + (np.arange(escape + 2) > 0)
    bits[:, escape:] += 8.0  # the rest of an escaped magnitude
    return escape, tables, bits


def pack_runs(index: np.ndarray, quantiser: np.ndarray, lanes: int, escape: int, tables: np.ndarray) -> bytes:
    """(runs, length) → states, 5 bytes a lane · 16-bit words, in the order in which the decoder asks for them."""
    symbols = 2 * shown(np.abs(index), escape) - (index > 0)
    _, frequency, start = slots(tables)
    f_all, start_all = (
        frequency[quantiser, symbols].astype(np.uint64),
        start[quantiser, symbols].astype(np.uint64),
    )
    lane = np.full(lanes, 1 << LOW, np.uint64)
    words: list[np.ndarray] = []
    low, refill, scale = np.uint64(LOW), np.uint64(16), np.uint64(SCALE)
    for first in range((len(index) - 1) // lanes * lanes, -1, -lanes):
        for f, begin in zip(
            f_all[first : first + lanes].T[::-1], start_all[first : first + lanes].T[::-1], strict=True
        ):
            x = lane[: len(f)]
            spill = x >= f << low
            if spill.any():
                words.append(x[spill].astype("<u2"))
                x = np.where(spill, x >> refill, x)
            quotient = x // f
            lane[: len(f)] = (quotient << scale) + (x - quotient * f) + begin
    states = lane.astype("<u8").view(np.uint8).reshape(lanes, 8)[:, :5]
    return states.tobytes() + b"".join(word.tobytes() for word in reversed(words))


def search(
    runs: np.ndarray, bits: np.ndarray, price: float, memory: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """runs (n, length) in steps Δ, bits (2, M), λ in Δ² → indices (n, length) int64 and their quantisers."""
    after = machine(memory)
    before = np.argsort(after.reshape(-1), kind="stable").reshape(
        -1, 2
    )  # 2·state + parity, two into each state
    index, quantiser = np.zeros(runs.shape, np.int64), np.zeros(runs.shape, np.int64)
    run = viterbi()

    def piece(i: int) -> None:
        run(runs[i], price * bits, before, index[i], quantiser[i])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(piece, range(len(runs))))
    return index, quantiser


@lru_cache(maxsize=1)
def viterbi() -> Callable[..., Any]:
    """Viterbi's algorithm, compiled: run(weights, toll, before, index, quantiser) fills the last two, (T,), with the
    cheapest path from state 0.

    weights (T,) in steps Δ; toll (2, M): what an index of each magnitude costs beside its error, M − 2 and M − 1 standing
    for all from M − 2 on, by parity; before (states, 2): 2·state + parity of both ways into a state.
    """
    from numba import njit

    @njit(cache=True, nogil=True)
    def run(weights, toll, before, index, quantiser):  # type: ignore[no-untyped-def]
        n, last = len(weights), toll.shape[1] - 2
        states = len(before)
        cost, following = np.full(states, 1e300), np.empty(states)
        cost[0] = 0.0
        came_from = np.empty((n, states), np.uint8)
        chosen = np.empty((n, 4), np.int64)
        toll_of = np.empty(4)
        for t in range(n):
            x = abs(weights[t])
            for kind in range(4):  # 2·quantiser + parity
                which, parity = kind >> 1, kind & 1
                near = int((x + which) / 2)  # in between are near and near + 1
                k = near + (near + parity & 1)
                best, least = k, 1e300
                for candidate in (k - 2, k, parity):
                    if candidate < 0:
                        continue
                    level = 2 * candidate - (which if candidate > 0 else 0)
                    place = candidate if candidate < last else last + (candidate - last & 1)
                    d = (x - level) ** 2 + toll[which, place]
                    if d < least:
                        best, least = candidate, d
                chosen[t, kind], toll_of[kind] = best, least
            for s in range(states):
                a, b = before[s, 0], before[s, 1]
                one = cost[a >> 1] + toll_of[(a >> 1 & 1) * 2 + (a & 1)]
                two = cost[b >> 1] + toll_of[(b >> 1 & 1) * 2 + (b & 1)]
                came_from[t, s] = two < one
                following[s] = two if two < one else one
            cost, following = following, cost
        state = np.argmin(cost)
        for t in range(n - 1, -1, -1):
            way = before[state, came_from[t, state]]
            state = way >> 1
            quantiser[t] = state & 1
            k = chosen[t, (state & 1) * 2 + (way & 1)]
            index[t] = k if weights[t] > 0 else -k

    return run
