"""Tables for an entropy coder.

Weights of which larger indices are expected are coded under tables of their own, as long as these pay for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.shared.models.remote_code.decode_ectcq import COARSE
from components.shared.models.remote_code.lossless import frequencies

SYMBOL_BITS = 12  # bits, about, that a table takes a symbol


@dataclass(frozen=True)
class Tables:
    """Frequencies of magnitudes, by class and quantiser.

    width        (classes,) levels that each class spans
    escape       from there on magnitudes escape
    frequencies  (2 · classes, escape + 2) summing to 2^12 each, a class's table for Q0, then its table for Q1
    """

    width: np.ndarray
    escape: int
    frequencies: np.ndarray

    def bits(self) -> np.ndarray:
        """(classes, 2, escape + 2): what a magnitude costs, its sign included."""
        bits = COARSE - np.log2(np.maximum(self.frequencies, 0.5)) + (np.arange(self.escape + 2) > 0)
        bits[:, self.escape :] += 8.0  # the rest of an escaped magnitude
        return bits.reshape(len(self.width), 2, -1)

    def class_of(self, level: np.ndarray) -> np.ndarray:
        """(…) uint8 of levels (…)."""
        return np.repeat(np.arange(len(self.width), dtype=np.uint8), self.width)[level]


def table_symbol(magnitude: np.ndarray, escape: int) -> np.ndarray:
    """What the tables see of a magnitude: itself, or from `escape` on one of two symbols, by parity."""
    return np.where(magnitude < escape, magnitude, escape + (magnitude - escape & 1))


def fit_tables(index: np.ndarray, quantiser: np.ndarray, level: np.ndarray, levels: int, size: int) -> Tables:
    """The tables of least bits for indices, their quantisers and their levels in [0, levels), all of one shape.

    Rare magnitudes escape: their places in the tables would cost more. size: of the whole that the tables are for.
    """
    magnitude, level = np.abs(index).reshape(-1), level.reshape(-1)
    counts = np.bincount(magnitude) if len(magnitude) else np.ones(1, np.int64)
    tail = counts[::-1].cumsum()[::-1]  # as large or larger
    common = int((tail > max(len(magnitude) / 4096, 3 * len(magnitude) / max(size, 1))).sum())
    escape = min(max(common, 1), 126)
    symbols = escape + 2
    entry = (2 * level + quantiser.reshape(-1)) * symbols + table_symbol(magnitude, escape)
    counts = np.bincount(entry, minlength=levels * 2 * symbols).reshape(levels, 2, symbols)
    width = partition(counts * (size / max(len(magnitude), 1)))
    ends = np.cumsum(width)
    each = [counts[end - w : end].sum(axis=0) for w, end in zip(width, ends, strict=True)]
    tables = [frequencies(row, 1 << COARSE) for pair in each for row in pair]
    return Tables(width, escape, np.stack(tables))


def partition(counts: np.ndarray) -> np.ndarray:
    """Counts (levels, 2, symbols) → (classes,) int64, levels of each: neighbours that share tables, at least bits in all.

    Exact, by dynamic programming over where the last class begins.
    """
    levels = len(counts)
    total = np.concatenate([np.zeros((1, *counts.shape[1:])), counts.cumsum(axis=0)])
    best, begins = np.zeros(levels + 1), np.zeros(levels + 1, np.int64)
    for end in range(1, levels + 1):
        part = total[end] - total[:end]  # (begin, 2, symbols)
        positive = np.maximum(part, 1e-9)
        bits = -(part * np.log2(positive / positive.sum(axis=2, keepdims=True))).sum(axis=(1, 2))
        cost = best[:end] + bits + SYMBOL_BITS * 2 * counts.shape[2]
        begins[end] = int(np.argmin(cost))
        best[end] = cost[begins[end]]
    width, end = [], levels
    while end:
        width.append(end - int(begins[end]))
        end = int(begins[end])
    return np.array(width[::-1], np.int64)
