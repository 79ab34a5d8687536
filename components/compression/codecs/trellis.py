"""Trellis-coded quantisation on the bitshift trellis (QTIP, arXiv 2406.11235). Encoding.

Viterbi's algorithm finds the run of states whose values are nearest to the weights among all that share L − k bits from
weight to weight. Runs bite their own tail: the state at the seam is found on the weights around it, then held fixed
(QTIP, algorithm 4, whose first pass over the whole run is not needed for that). Runs are up to 1024 weights long, not
QTIP's 256: the seam costs .1 dB there. `remote_code/decode_trellis.py` says which value a state has; this code is better
than QTIP's 1MAD and 3INST, which hash without looking at which states meet.

With a Hessian runs go down the columns, and the error of each column is carried on as GPTQ does (hessian.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from components.shared.models.remote_code.decode_trellis import (
    CODEC,
    DEVIATION,
    FINE,
    VERSION,
    decode,
    states,
    values,
)
from components.shared.models.remote_code.lossless import octaves

from ..coding.check import require_finite
from ..coding.hessian import error_feedback, round_columns
from ..coding.lossless import frame, pack, pack_fixed, pack_numbers
from .codec import Codec, CodecPreset

__all__ = ["decode", "encode"]

RUN = 1024  # weights at most
SEAM = 8  # times L/k weights around the seam decide on its state


def encode(
    w: np.ndarray,
    hessian: np.ndarray | None = None,
    *,
    bits: int = 2,
    memory: int = 16,
    group: int = 0,
) -> bytes:
    """w, any shape, float32 → code of `bits` (k) a weight, with 2^memory (2^L) states.

    hessian (in, in) goes with a matrix (out, in). group: weights of a run that share a scale, an eighth of an octave
    exact and entropy-coded; 0: one scale for all.

    :raises InputError: w has NaN or infinite values or no floating dtype, or the Hessian is no finite square matrix.
    :raises ValueError: bits outside 1 … 8, a memory outside 2 · bits … 18, or a negative group.
    """
    w = require_finite(w)
    if not 1 <= bits <= 8 or not 2 * bits <= memory <= 18 or group < 0:
        raise ValueError(f"a trellis needs 1 ≤ k ≤ 8, 2k ≤ L ≤ 18, group ≥ 0; got {bits}, {memory}, {group}")
    height = w.size if hessian is None else len(w)
    columns = w.size // height if height else 0
    matrix = w.reshape(height, columns).astype(np.float64)
    unit = np.sqrt((matrix**2).mean()) if matrix.any() else 1.0
    matrix = matrix / unit
    per_column = max(-(-height // RUN), 1)
    length = max(-(-height // per_column), -(-memory // bits))
    per_column = -(-height // length)
    index = scale_index(column_runs(matrix, length), group)
    scale = np.repeat(octaves(index, FINE), max(group, 1), axis=1)[:, :length] if group else np.ones((1, 1))
    scale = np.broadcast_to(scale, (columns * per_column, length)).reshape(columns, per_column, length)
    symbols = np.zeros(scale.shape, np.uint8)

    def quantise(column: np.ndarray, j: int) -> np.ndarray:
        symbols[j] = search(column_runs(column[:, None], length) / scale[j], bits, memory)
        value = values(bits, memory)[states(symbols[j], bits, memory)] / DEVIATION * scale[j]
        return value.reshape(-1)[: len(column)]

    decoded = round_columns(matrix, error_feedback(hessian), quantise)
    if hessian is None and decoded.any():
        unit *= (matrix * decoded).sum() / (decoded**2).sum()  # the scale of least error
    lowest, kinds = (int(-index.min()), int(np.ptp(index)) + 1) if index.size else (0, 1)  # the least is ≤ 0
    head = [bits, memory, height, length, group, lowest, kinds, *w.shape]
    return frame(
        CODEC,
        VERSION,
        [
            pack_numbers(head),
            np.float32(unit if matrix.any() else 0.0).astype("<f4").tobytes(),
            pack(index.reshape(-1) + lowest, kinds) if group else b"",
            pack_fixed(symbols.reshape(-1), bits),
        ],
    )


def column_runs(matrix: np.ndarray, length: int) -> np.ndarray:
    """(height, columns) → runs down the columns (columns · runs of a column, length), filled up with zeros."""
    padded = np.pad(matrix, ((0, -len(matrix) % length), (0, 0)))
    return np.ascontiguousarray(padded.T).reshape(-1, length)


def scale_index(runs: np.ndarray, group: int) -> np.ndarray:
    """The root mean square of every group of runs (n, length), in eighths of an octave: (n, groups) int64, ≥ −80."""
    if not group:
        return np.zeros((len(runs), 0), np.int64)
    n, length = runs.shape
    parts = -(-length // group)
    squares = np.pad(runs**2, ((0, 0), (0, -length % group))).reshape(n, parts, group).sum(axis=2)
    sizes = np.minimum(group, length - group * np.arange(parts))
    return np.rint(4 * np.log2(np.maximum(squares / sizes, 2.0**-20))).astype(np.int64)


def search(runs: np.ndarray, bits: int, memory: int) -> np.ndarray:
    """Runs (n, length), in units of the values' deviation → symbols (n, length) uint8 that bite their own tails."""
    n, length = runs.shape
    code = (values(bits, memory) / DEVIATION).astype(np.float32)
    run = viterbi(bits)
    runs = runs.astype(np.float32)
    near = SEAM * memory // bits // 2
    seam_positions = np.arange(-near, near) % length
    symbols = np.empty(runs.shape, np.uint8)
    path, final = np.empty(2 * near, np.int64), np.empty(length, np.int64)
    for i in range(n):
        run(runs[i, seam_positions], code, -1, path)
        run(runs[i], code, path[near - 1] & ((1 << memory - bits) - 1), final)
        symbols[i] = final & ((1 << bits) - 1)
    return symbols


@lru_cache(maxsize=8)
def viterbi(bits: int) -> Callable[..., Any]:
    """Viterbi's algorithm compiled for k = bits.

    run(weights (T,) float32, code (2^L,) float32, seam, path (T,) int64): fills `path` with the states of least squared
    error, whose bits before the first weight and at the end are `seam` (L − k bits), or free for −1.
    """
    from numba import njit

    WAYS = 1 << bits

    @njit(cache=True, nogil=True, fastmath=True)
    def run(weights, code, seam, path):  # type: ignore[no-untyped-def]
        n, rest = len(weights), len(code) >> bits
        cost, following = np.zeros(len(code), np.float32), np.empty(len(code), np.float32)
        came_from = np.empty((n, rest), np.uint8)
        if seam >= 0:
            cost[:] = 1e30
            for h in range(WAYS):
                cost[h * rest + seam] = 0.0
        for t in range(n):
            w = weights[t]
            for g in range(rest):
                least, way = cost[g], 0
                for h in range(1, WAYS):
                    other = cost[h * rest + g]
                    if other < least:
                        least, way = other, h
                came_from[t, g] = way
                for c in range(WAYS):
                    d = code[g * WAYS + c] - w
                    following[g * WAYS + c] = least + d * d
            cost, following = following, cost
        state = 0
        if seam < 0:
            state = int(np.argmin(cost))
        else:
            state = seam
            for h in range(1, WAYS):
                if cost[h * rest + seam] < cost[state]:
                    state = h * rest + seam
        for t in range(n - 1, -1, -1):
            path[t] = state
            g = state >> bits
            state = came_from[t, g] * rest + g

    return run


# The presets turn weights by the Hadamard transform first. A code of one rate for all weights has nothing to say of large
# ones: alone, with one scale, it cuts them off, and what error feedback then asks of the other columns it cuts off as well.
# In a layer of a real model, whose rows differ fourfold and whose inputs a thousandfold, the output's error is a hundred
# times as large.
PRESETS = (
    CodecPreset("trellis 4", "trellis", 4.0, {"bits": 4, "memory": 12, "group": 256}, transform="hadamard"),
    CodecPreset("trellis 3", "trellis", 3.0, {"bits": 3, "memory": 12, "group": 256}, transform="hadamard"),
    CodecPreset("trellis 2", "trellis", 2.0, {"bits": 2, "memory": 12, "group": 256}, transform="hadamard"),
    CodecPreset("trellis 1", "trellis", 1.0, {"bits": 1, "memory": 12, "group": 256}, transform="hadamard"),
    CodecPreset(
        "trellis 2, L=16", "trellis", 2.0, {"bits": 2, "memory": 16, "group": 256}, transform="hadamard"
    ),
)
CODECS = (Codec("trellis", "QTIP", "Tseng et al., arXiv 2406.11235", encode, PRESETS, hessian=True),)
