"""Entropy-coded trellis-coded quantisation (Fischer and Wang, IEEE Trans. IT 38, 1992). Decoding only.

Two quantisers of step 2 share the multiples of a step: Q0 has 0, ±2, ±4 …, Q1 has 0, ±1, ±3 … (as in VVC's dependent
quantisation). A weight is an index k into the quantiser of the moment, and the parity of k moves a machine of 2^ν
states, Ungerboeck's codes, whose state says which quantiser comes next. Every run starts in state 0. With ν = 0 there
is only Q0: a uniform quantiser.

A column may have a step of its own, in quarters of an octave, a row too, and columns and rows a size that is expected of
them, in halves: sizes less step say how large an index is to be expected, and so which tables it is coded under.

Indices are entropy-coded under one table for each class and quantiser (rANS, as in lossless.py), lanes of runs side by
side, so that numpy decodes a step of all lanes at a time. A sign costs a bit; indices from `escape` on keep their parity
in the table and the rest as numbers of their own.
"""

from __future__ import annotations

import numpy as np

from .lossless import SCALE, CodeError, count_of, octaves, read_lanes, refill, unframe, unpack, unpack_numbers

CODEC, VERSION = 6, 2
ROW_STEPS = 3  # the version of codes whose rows have steps of their own
FINE = 4  # steps of columns and rows, an octave
CLASSES, LEVELS = 1 << 8, 1 << 16  # at most
COARSE = 12  # frequencies of magnitudes sum to 2^12
CODES = {0: (0, 0), 2: (0o5, 0o2), 3: (0o13, 0o4), 4: (0o23, 0o4), 5: (0o45, 0o10), 6: (0o103, 0o24), 7: (0o235, 0o126),
         8: (0o515, 0o362)}  # ν → parity checks h0, h1 (Ungerboeck, IEEE Trans. IT 28, 1982, table I)  # fmt: skip


def state_machine(memory: int) -> np.ndarray:
    """(2^memory, 2) int64: the state after each state and parity; the lowest bit of a state names its quantiser.

    Systematic feedback encoder in observer form: z0 = r1, r_j ← r_{j+1} + h0_j·z0 + h1_j·z1. z1 is the parity of k in
    Q0 and its opposite in Q1, where ±1 are the first of their class.
    """
    h0, h1 = CODES[memory]
    state = np.arange(1 << memory)[:, None]
    quantiser = state & 1
    chosen = np.array([0, 1]) ^ quantiser
    return state >> 1 ^ quantiser * (h0 >> 1) ^ chosen * (h1 >> 1)


def levels(index: np.ndarray, quantiser: np.ndarray) -> np.ndarray:
    """Indices and their quantisers, 0 or 1 → the level in steps: 2k in Q0, 2k − sign(k) in Q1."""
    return 2 * index - quantiser * np.sign(index)


def unpack_line_numbers(part: bytes, count: int) -> np.ndarray:
    """Whole numbers (count,) int64, one a column or row; zeros for b"".

    What divides them all, an offset, how many kinds there are, and the kinds.
    """
    if not part:
        return np.zeros(count, np.int64)
    (coarse, lowest, kinds), end = unpack_numbers(part, 3)
    return coarse * (unpack(part[end:], count, kinds).astype(np.int64) - lowest)


def expected_levels(steps: np.ndarray, sizes: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Steps of columns, sizes of columns and rows → (columns, rows) int64.

    The size to expect of an index, in quarters of an octave, from 0.
    """
    expected = (2 * sizes[0] - steps)[:, None] + 2 * sizes[1]
    return expected - expected.min(initial=0)


def symbol_slots(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables of magnitudes (tables, M), summing to 2^12 each, as those of signed symbols 0, 1, −1, 2, −2 ….

    :returns: symbol by slot (tables, 2^16), and the frequency and start of every symbol, (tables, 2M − 1).
    """
    frequency = np.repeat(tables << (SCALE - COARSE - 1), 2, axis=1)[:, 1:]
    frequency[:, 0] *= 2
    start = np.cumsum(frequency, axis=1) - frequency
    symbol_at = np.stack([np.repeat(np.arange(frequency.shape[1]), row) for row in frequency])
    return symbol_at, frequency, start


def unpack_runs(
    data: bytes, classes: np.ndarray, lanes: int, tables: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signed symbols (runs, length) and the quantisers of each; lane l holds the runs l, l + lanes and so on.

    classes (runs, length); tables (2 · classes, M): a class's table for Q0, its table for Q1, the next class's …

    :raises CodeError: the part is cut short, damaged or too long.
    """
    if len(data) < 5 * lanes or (len(data) - 5 * lanes) % 2:
        raise CodeError("an entropy-coded part is cut short or damaged; fetch the artifact again")
    runs, length = classes.shape
    symbol_at, frequency, start = symbol_slots(tables)
    symbol_at = symbol_at.reshape(-1)
    table_at = np.repeat(np.arange(len(tables)), 1 << SCALE)
    frequency_at = frequency[table_at, symbol_at].astype(np.uint64)
    offset_at = (np.arange(len(table_at)) - (table_at << SCALE) - start[table_at, symbol_at]).astype(
        np.uint64
    )
    parity_at = (symbol_at + 1) // 2 & 1
    after = after.reshape(-1)
    lane, words = read_lanes(data, lanes)
    used, slot_of = 0, np.empty((runs, length), np.int64)
    mask, scale = np.uint64(0xFFFF), np.uint64(SCALE)
    for first in range(0, runs, lanes):
        x = lane[: runs - first]
        state = np.zeros(len(x), np.int64)
        slots_of = np.ascontiguousarray(classes[first : first + lanes].T, np.int64) << (SCALE + 1)
        for t in range(length):
            slot = slots_of[t]
            slot += (x & mask).view(np.int64)
            slot += (state & 1) << SCALE
            x = frequency_at[slot] * (x >> scale) + offset_at[slot]
            used = refill(x, words, used)
            state = after[2 * state + parity_at[slot]]
        lane[: len(x)] = x
        slot_of[first : first + lanes] = slots_of.T
    if used != len(words):
        raise CodeError("an entropy-coded part is longer than its symbols; fetch the artifact again")
    return symbol_at[slot_of], slot_of >> SCALE & 1


def decode(code: bytes) -> np.ndarray:
    """An ECTCQ code → the float32 weight in its own shape.

    :raises CodeError: the code was cut or altered, or is of another codec or version, or its header and its parts disagree.
    """
    version = ROW_STEPS if code[3:4] == bytes([ROW_STEPS]) else VERSION
    head, unit, *sides, spans, frequencies, packed, rest = unframe(
        code, CODEC, version
    )  # three or four sides
    (memory, height, length, lanes, escape, *shape), _ = unpack_numbers(head)
    count = count_of(shape, code)
    if memory not in CODES or not length or not lanes or (count and (not height or count % height)):
        raise CodeError(f"an ECTCQ code of 2^{memory} states, runs of {length} and columns of {height}")
    rows = shape[0] if len(shape) > 1 else 1
    columns = count // rows if rows else 0
    steps, *sizes = map(unpack_line_numbers, sides, (columns, columns, rows, rows))
    expected = expected_levels(steps, (sizes[0], sizes[1]))
    padded = (count // height if count else 0, -(-height // length) * length)
    count_of(padded, code)
    level = np.zeros(padded, np.int64)
    level[:, :height] = expected if height == rows else expected.T.reshape(1, -1)
    width = unpack_numbers(spans)[0]
    tables = np.array(unpack_numbers(frequencies)[0], np.int64).reshape(2 * len(width), -1)
    if (
        len(width) > CLASSES
        or not level.max(initial=0) < sum(width) <= LEVELS
        or tables.shape[1] != escape + 2
    ):
        raise CodeError("an ECTCQ code whose classes are damaged")
    if (tables.sum(axis=1) != 1 << COARSE).any():
        raise CodeError("an ECTCQ code whose tables are damaged")
    classes = np.repeat(np.arange(len(width)), width)[level].reshape(-1, length)
    symbols, quantiser = unpack_runs(packed, classes, lanes, tables, state_machine(memory))
    index = (symbols + 1) // 2
    escaped = index >= escape
    index[escaped] += 2 * np.array(unpack_numbers(rest, int(escaped.sum()))[0], np.int64)
    w = levels(np.where(symbols & 1, index, -index), quantiser).reshape(level.shape)[:, :height]
    w = (w.T if height == rows else w.reshape(rows, columns)) * octaves(steps, FINE)
    if version == ROW_STEPS:
        w = w * octaves(sizes[2], FINE)[:, None]
    return np.ascontiguousarray(w * np.float64(np.frombuffer(unit, "<f4")[0]), np.float32).reshape(shape)
