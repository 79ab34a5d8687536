"""Entropy-coded trellis-coded quantisation (Fischer and Wang, IEEE Trans. IT 38, 1992). Encoding.

Viterbi's algorithm takes the path of least (w/Δ − level)² + λ·bits through the trellis that remote_code/decode_ectcq.py
describes, bits being what the entropy coder will ask: tables and path are fitted in turn, on a sample of the runs, the
path of all runs then in one pass. Of the 1.53 dB that a scalar quantiser loses at high rates 256 states leave .2, 8
states .44 (Marcellin and Fischer, 1990). A step gives any rate.

With a Hessian runs go down the columns, and the error of each column is feedback on as GPTQ does (hessian.py). Columns
that weigh less have larger steps (waterfilling.py), and what is known of the size of an index, from its column's step and
from how large column and row are, chooses the table that it is coded under (contexts.py). Rows whose errors weigh less may
have larger steps too: a matrix is then coded as if each of its rows were divided by its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from components.shared.models.remote_code.decode_ectcq import (
    CODEC,
    CODES,
    FINE,
    ROW_STEPS,
    VERSION,
    decode,
    expected_levels,
    levels,
    state_machine,
    symbol_slots,
)
from components.shared.models.remote_code.lossless import LOW, SCALE, octaves

from ..coding.check import require_finite
from ..coding.contexts import Tables, fit_tables, table_symbol
from ..coding.hessian import error_feedback, round_columns
from ..coding.lossless import frame, pack, pack_numbers
from ..coding.waterfilling import column_steps, line_sizes, rounded_octaves
from .codec import Codec, CodecPreset
from .trellis import column_runs

__all__ = ["decode", "encode"]

RUN = 4096  # weights at most
LANES = 64  # beyond them lanes grow longer before there are more: a lane's state costs three bytes
LANE = (1 << 12, 1 << 14)  # weights at least and at most
SAMPLE = 1 << 16  # weights on which the tables are fitted
ROUNDS = 4
NOISE = (
    0.05  # mean square error, against that of w, in squares of `step`: measured for steps from .27 to 2.45
)
PRICE = 0.07  # λ for a bit, in squares of `step`: the best of .04, .06, .08 is near here for every rate and machine


def encode(
    w: np.ndarray,
    hessian: np.ndarray | None = None,
    *,
    step: float,
    memory: int = 3,
    price: float = PRICE,
    importance: np.ndarray | None = None,
) -> bytes:
    """w, any shape, float32 → code. step: 2Δ, in units of the root mean square of w. memory: ν of 2^ν states.

    hessian (in, in) goes with a matrix (out, in). price: λ, what a bit is worth, in squares of `step`.
    importance (out,) > 0: what the square of an error in a row weighs; a row of weight 1 has steps of `step`.

    :raises InputError: w has NaN or infinite values or no floating dtype, or the Hessian is no finite square matrix.
    :raises ValueError: no such memory, a step outside 0.001 … 1000, or a negative price.
    """
    w = require_finite(w)
    if memory not in CODES or not 1e-3 <= step <= 1e3 or price < 0:
        raise ValueError(
            f"ECTCQ needs ν 0 or in 2…8, a step in .001…1000, λ ≥ 0; got {memory}, {step}, {price}"
        )
    rows = len(w) if w.ndim > 1 else 1
    columns = w.size // rows if rows else 0
    matrix = w.reshape(rows, columns).astype(np.float64)
    deviation = np.sqrt((matrix**2).mean()) if matrix.any() else 1.0
    row_steps = (
        np.zeros(0, np.int64)
        if importance is None
        else rounded_octaves(-np.log2(importance) / 2, columns, FINE)
    )
    if row_steps.any():
        matrix /= octaves(row_steps, FINE)[:, None]
    feedback = error_feedback(hessian, min(NOISE * step**2, 1.0))
    steps = column_steps(np.ones(columns) if feedback is None else feedback.weights, rows, FINE)
    sizes = expected_sizes(matrix / deviation)
    level, scale, unit = expected_levels(steps, sizes), octaves(steps, FINE), deviation * step / 2
    matrix /= unit
    if hessian is None:  # nothing goes from column to column: the whole matrix is one, row by row
        matrix, level, scale = matrix.reshape(-1, 1), level.T.reshape(1, -1), np.ones(1)
    height = len(matrix)
    length = max(-(-height // max(-(-height // RUN), 1)), 1)
    level = column_runs(level.T, length)
    count = int(level.max(initial=0)) + 1
    tables = initial_tables(column_runs(matrix / scale, length), level, count, step, price, memory)
    classes, bits = tables.class_of(level), tables.bits()
    index, quantiser = np.zeros(level.shape, np.int64), np.zeros(level.shape, np.int64)
    runs = -(-height // length)  # of a column

    def quantise(column: np.ndarray, j: int) -> np.ndarray:
        padded_runs, run_range = (
            column_runs((column / scale[j])[:, None], length),
            slice(j * runs, (j + 1) * runs),
        )
        index[run_range], quantiser[run_range] = search(
            padded_runs, classes[run_range], bits, 4 * price, memory
        )
        return levels(index[run_range], quantiser[run_range]).reshape(-1)[: len(column)] * scale[j]

    decoded = round_columns(matrix, feedback, quantise)
    if hessian is None and decoded.any():
        unit *= (matrix * decoded).sum() / (decoded**2).sum()  # the step of least error
    tables = fit_tables(index, quantiser, level, count, index.size)
    lane = min(max(index.size // LANES, LANE[0]), LANE[1])
    lanes = max(min(index.size // lane, len(index)), 1)
    magnitude = np.abs(index)
    sides = [steps, *sizes] + [row_steps] * bool(row_steps.any())
    return frame(
        CODEC,
        ROW_STEPS if row_steps.any() else VERSION,
        [
            pack_numbers([memory, height, length, lanes, tables.escape, *w.shape]),
            np.float32(unit if matrix.any() else 0.0).astype("<f4").tobytes(),
            *map(pack_line_numbers, sides),
            pack_numbers(tables.width),
            pack_numbers(tables.frequencies.reshape(-1)),
            pack_runs(index, quantiser, tables.class_of(level), lanes, tables),
            pack_numbers((magnitude[magnitude >= tables.escape] - tables.escape) // 2),
        ],
    )


def expected_sizes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is expected of columns, and of rows in columns so divided: root mean squares in halves of an octave."""
    if not matrix.size:
        return np.zeros(matrix.shape[1], np.int64), np.zeros(matrix.shape[0], np.int64)
    column = line_sizes((matrix**2).mean(axis=0), matrix.shape[0], FINE // 2)
    remainder = matrix / octaves(2 * column, FINE)
    return column, line_sizes((remainder**2).mean(axis=1), matrix.shape[1], FINE // 2)


def initial_tables(
    runs: np.ndarray, level: np.ndarray, count: int, step: float, price: float, memory: int
) -> Tables:
    """The tables fitted to a sample of runs (n, length), in steps Δ, whose levels (n, length) are below `count`."""
    sample = slice(None, None, max(runs.size // SAMPLE, 1))
    classes, bits = level[sample], gaussian_bits(runs[sample], level[sample], count)
    for _ in range(ROUNDS):
        index, quantiser = search(runs[sample], classes, bits, 4 * price, memory)
        tables = fit_tables(index, quantiser, level[sample], count, runs.size)
        classes, bits = tables.class_of(level[sample]), tables.bits()
    return tables


def gaussian_bits(runs: np.ndarray, level: np.ndarray, count: int) -> np.ndarray:
    """(count, 2, M) bits of a magnitude, sign included, for weights that are normal in every level."""
    weight = np.bincount(level.reshape(-1), minlength=count)
    squares = np.bincount(level.reshape(-1), (runs**2).reshape(-1), minlength=count)
    step = 2 / np.sqrt(np.maximum(squares / np.maximum(weight, 1), 1e-6))[:, None]
    magnitude = np.arange(min(int(8 / step.min()) + 3, 128))
    bits = (magnitude * step) ** 2 / 2 * np.log2(np.e) + np.log2(np.sqrt(2 * np.pi) / np.minimum(step, 2.0))
    return np.repeat(np.maximum(bits, 0.05)[:, None], 2, axis=1)


def pack_line_numbers(index: np.ndarray) -> bytes:
    """Whole numbers, one a column or row, as bytes; b"" for zeros.

    What divides them all, an offset, how many kinds there are, and the kinds.
    """
    if not index.any():
        return b""
    coarse = int(np.gcd.reduce(index))
    index = index // coarse
    least = min(int(index.min()), 0)
    kinds = int(index.max()) - least + 1
    return pack_numbers([coarse, -least, kinds]) + pack(index - least, kinds)


def pack_runs(
    index: np.ndarray, quantiser: np.ndarray, classes: np.ndarray, lanes: int, tables: Tables
) -> bytes:
    """(runs, length) → states, 5 bytes a lane · 16-bit words, in the order in which the decoder asks for them."""
    symbols = 2 * table_symbol(np.abs(index), tables.escape) - (index > 0)
    _, frequency, start = symbol_slots(tables.frequencies)
    table = 2 * classes.astype(np.int64) + quantiser
    f_all, start_all = (of[table, symbols].astype(np.uint64) for of in (frequency, start))
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
    runs: np.ndarray, classes: np.ndarray, bits: np.ndarray, price: float, memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest paths of runs through the trellis.

    :param runs: (n, length), in steps Δ; classes: of each weight, the same shape.
    :param bits: (classes, 2, M); price: λ in Δ².
    :returns: indices (n, length) int64 and their quantisers.
    """
    index, quantiser = np.zeros(runs.shape, np.int64), np.zeros(runs.shape, np.int64)
    run, penalty, classes, branches = viterbi(), price * bits, classes.astype(np.uint8), predecessors(memory)
    for i in range(len(runs)):
        run(runs[i], classes[i], penalty, branches, index[i], quantiser[i])
    return index, quantiser


@lru_cache(maxsize=8)
def predecessors(memory: int) -> np.ndarray:
    """From which states one comes to each, (4, half) int32, half being 2^memory / 2.

    The states from which one comes to state s, by even and by odd parity if s < half, then those from which one comes
    to state half + s, by odd and by even parity; all of the first end in Q0, all of the second in Q1. (4, 0) for a
    machine of one state.
    """
    after, half = state_machine(memory), (1 << memory) // 2
    states = np.empty((4, half), np.int32)
    for state, parity in np.ndindex(after.shape if half else (0, 2)):
        into = int(after[state, parity])
        states[2 * (into // half) + (parity ^ into // half), into % half] = state
    return states


@lru_cache(maxsize=1)
def viterbi() -> Callable[..., Any]:
    """Viterbi's algorithm, compiled.

    run(weights, classes, penalty, branches, index, quantiser) fills the last two, (T,), with the cheapest path from
    state 0.

    weights (T,) in steps Δ; classes (T,) uint8; penalty (classes, 2, M): what an index of each magnitude costs beside its
    error, M − 2 and M − 1 standing for all from M − 2 on, by parity; branches as `predecessors` has them. Costs are
    float32, so that many states are looked at side by side.
    """
    from numba import njit

    @njit(cache=True, nogil=True)
    def run(weights, classes, penalty, branches, index, quantiser):  # type: ignore[no-untyped-def]
        n, last, half = len(weights), penalty.shape[2] - 2, branches.shape[1]
        cost, following = np.full(2 * half, np.float32(1e30)), np.empty(2 * half, np.float32)
        cost[:1] = 0.0
        came_from = np.empty((n, 2 * half), np.uint8)
        chosen = np.empty((n, 4), np.int64)
        penalty_of = np.empty(4, np.float32)
        for t in range(n):
            x, context = abs(weights[t]), classes[t]
            for kind in range(4 if half else 2):  # 2·quantiser + parity
                which, parity = kind >> 1, kind & 1
                near = int((x + which) / 2)  # in between are near and near + 1
                k = near + (near + parity & 1)
                best, least = k, 1e300
                for candidate in (k - 2, k, parity):
                    if candidate < 0:
                        continue
                    level = 2 * candidate - (which if candidate > 0 else 0)
                    entry = candidate if candidate < last else last + (candidate - last & 1)
                    d = (x - level) ** 2 + penalty[context, which, entry]
                    if d < least:
                        best, least = candidate, d
                chosen[t, kind], penalty_of[kind] = best, least
            if half == 0:
                k = chosen[t, 0] if penalty_of[0] <= penalty_of[1] else chosen[t, 1]
                index[t] = k if weights[t] > 0 else -k
                continue
            even0, odd0, even1, odd1 = penalty_of[0], penalty_of[1], penalty_of[2], penalty_of[3]
            for s in range(half):
                from_even, from_odd = cost[branches[0, s]] + even0, cost[branches[1, s]] + odd0
                came_from[t, s] = from_odd < from_even
                following[s] = min(from_even, from_odd)
            for s in range(half):
                from_even, from_odd = cost[branches[2, s]] + odd1, cost[branches[3, s]] + even1
                came_from[t, half + s] = from_odd < from_even
                following[half + s] = min(from_even, from_odd)
            cost, following = following, cost
        if half == 0:
            return
        state = np.argmin(cost)
        for t in range(n - 1, -1, -1):
            which, branch = int(state >= half), came_from[t, state]
            state = branches[2 * which + branch, state - which * half]
            quantiser[t] = which
            k = chosen[t, 2 * which + (branch ^ which)]
            index[t] = k if weights[t] > 0 else -k

    return run


PRESETS = (
    CodecPreset("ectcq 6", "ectcq", 6.0, {"step": 0.067, "memory": 8}),
    CodecPreset("ectcq 5", "ectcq", 5.0, {"step": 0.135, "memory": 8}),
    CodecPreset("ectcq 4", "ectcq", 4.0, {"step": 0.27, "memory": 8}),
    CodecPreset("ectcq 3", "ectcq", 3.0, {"step": 0.555, "memory": 8}),
    CodecPreset("ectcq 2.5", "ectcq", 2.5, {"step": 0.8, "memory": 8}),
    CodecPreset("ectcq 2", "ectcq", 2.0, {"step": 1.18, "memory": 8}),
    CodecPreset("ectcq 1.585", "ectcq", 1.585, {"step": 1.6, "memory": 8}),
    CodecPreset("ectcq 1", "ectcq", 1.0, {"step": 2.45, "memory": 8}),
    CodecPreset("ectcq 0.7", "ectcq", 0.7, {"step": 1.8, "memory": 8, "price": 0.16}),
    CodecPreset("ectcq 0.4", "ectcq", 0.4, {"step": 2.2, "memory": 8, "price": 0.16}),
    CodecPreset("ectcq 0.27", "ectcq", 0.27, {"step": 3.0, "memory": 8}),
    CodecPreset("ectcq 2, 8 states", "ectcq", 2.0, {"step": 1.18, "memory": 3}),
    CodecPreset("hadamard ectcq 4", "ectcq", 4.0, {"step": 0.27, "memory": 8}, transform="hadamard"),
    CodecPreset("hadamard ectcq 3", "ectcq", 3.0, {"step": 0.555, "memory": 8}, transform="hadamard"),
    CodecPreset("hadamard ectcq 2", "ectcq", 2.0, {"step": 1.18, "memory": 8}, transform="hadamard"),
    CodecPreset("hadamard ectcq 1.585", "ectcq", 1.585, {"step": 1.6, "memory": 8}, transform="hadamard"),
)
UNIFORM = (
    CodecPreset("uniform 1/16", "uniform", 6.05, {"step": 1 / 16, "memory": 0}),
    CodecPreset("uniform 1/8", "uniform", 5.05, {"step": 1 / 8, "memory": 0}),
    CodecPreset("uniform 1/4", "uniform", 4.05, {"step": 1 / 4, "memory": 0}),
    CodecPreset("uniform 1/2", "uniform", 3.05, {"step": 1 / 2, "memory": 0}),
    CodecPreset("uniform 3/4", "uniform", 2.5, {"step": 3 / 4, "memory": 0}),
    CodecPreset("uniform 1", "uniform", 2.05, {"step": 1.0, "memory": 0}),
    CodecPreset("uniform 3/2", "uniform", 1.47, {"step": 3 / 2, "memory": 0}),
    CodecPreset("uniform 2", "uniform", 1.03, {"step": 2.0, "memory": 0}),
    CodecPreset("uniform 3", "uniform", 0.27, {"step": 3.0, "memory": 0}),
)
CODECS = (
    Codec(
        "ectcq",
        "ECTCQ",
        "Fischer and Wang, IEEE Trans. IT 38, 1992",
        encode,
        PRESETS,
        hessian=True,
        importance=True,
    ),
    Codec(
        "uniform",
        "uniform levels, entropy-coded",
        "Gish and Pierce, IEEE Trans. IT 14, 1968",
        encode,
        UNIFORM,
        decoder="ectcq",
        hessian=True,
        importance=True,
    ),
)
