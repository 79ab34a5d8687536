"""Uniform scalar quantisation: the plain codec, with or without error feedback. Encoding.

Three ways to choose the scale: `encode` with 2k + 1 levels and the best scale for each group of a row (int8 and int4 as
everyone knows them), `encode_uniform` with one step for the whole tensor and as many levels as that needs, left to the
entropy coder (1.53 dB from the rate–distortion bound at high rates: Gish and Pierce, 1968), and `exact` for tensors
that already are ternary. With a Hessian the columns are rounded with GPTQ's error feedback (hessian.py).
"""

from __future__ import annotations

import numpy as np

from components.shared.models.hub.decode_scalar import CODEC, VERSION, decode, spread

from .check import finite
from .hessian import feedback, round_columns
from .lossless import frame, numbers, pack

__all__ = ["decode", "encode", "encode_uniform", "exact"]

SHRINK = np.linspace(0.4, 1.0, 25)  # of the scale that reaches the largest weight of a group


def encode(w: np.ndarray, hessian: np.ndarray | None = None, *, levels: int = 15, group: int = 64) -> bytes:
    """w, any shape, float32 → code with `levels` (odd) values for each group of neighbours in the last dimension.

    hessian (in, in) goes with a matrix (out, in). Each group's scale is the best of 25 in squared error.
    """
    w, k = finite(w), levels // 2
    if levels < 3 or levels % 2 == 0 or group < 1:
        raise ValueError(f"levels is odd and at least 3, group at least 1; got {levels} and {group}")
    matrix, unit = normalised(w)
    rows, columns = matrix.shape
    per_row = -(-columns // group)
    grouped = np.pad(matrix, ((0, 0), (0, per_row * group - columns))).reshape(rows * per_row, group)
    scales = np.zeros(rows * per_row, np.float16)
    least = np.full(rows * per_row, np.inf)
    largest = np.abs(grouped).max(axis=1, initial=0.0) / k
    for share in SHRINK:
        trial = np.minimum(largest * share, 65504.0).astype(np.float16)
        safe = np.where(trial > 0, trial, 1).astype(np.float64)[:, None]
        error = ((grouped - np.clip(np.rint(grouped / safe), -k, k) * safe) ** 2).sum(axis=1)
        better = error < least
        scales[better], least[better] = trial[better], error[better]
    scale = spread(np.float32(1), scales, rows, columns, group).astype(np.float64)
    q = rounded(matrix, scale, k, hessian)
    return seal(q, k, group, unit, scales.astype("<f2").tobytes(), w.shape)


def encode_uniform(w: np.ndarray, hessian: np.ndarray | None = None, *, step: float) -> bytes:
    """w, any shape, float32 → code with one step for all, in units of the root mean square of w."""
    w = finite(w)
    if not 1e-3 <= step <= 1e3:
        raise ValueError(f"a step of {step} root mean squares; it must lie between 0.001 and 1000")
    matrix, unit = normalised(w)
    unit = np.float32(unit * step)
    q = rounded(matrix, np.full((1, 1), step), None, hessian)
    return seal(q, int(np.abs(q).max(initial=1)), 0, unit, b"", w.shape)


def exact(w: np.ndarray) -> bytes | None:
    """The code of a tensor whose values are −s, 0 and s for one s: lossless. None for any other tensor."""
    w = finite(w)
    size = np.abs(w).max(initial=0.0).astype(np.float32)
    if not np.isin(np.abs(w), (0.0, size)).all():
        return None
    return seal(np.sign(w).astype(np.int64), 1, 0, size, b"", w.shape)


def normalised(w: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """w → its matrix (rows, last dimension) in float64, in units of its root mean square; and that unit, float32."""
    columns = w.shape[-1] if w.ndim else 1
    matrix = w.reshape(w.size // columns if columns else 0, columns).astype(np.float64)
    unit = np.float32(np.sqrt((matrix**2).mean())) if matrix.size else np.float32(0)
    return matrix / (np.float64(unit) if unit > 0 else 1.0), unit


def rounded(matrix: np.ndarray, scale: np.ndarray, k: int | None, hessian: np.ndarray | None) -> np.ndarray:
    """Integers (rows, columns) for the matrix under scales that broadcast to it; clipped to ±k where k is given."""
    safe = np.broadcast_to(np.where(scale > 0, scale, np.inf), matrix.shape)
    limit = np.inf if k is None else k
    if hessian is None:
        return np.clip(np.rint(matrix / safe), -limit, limit).astype(np.int64)
    q = np.zeros(matrix.shape, np.int64)

    def quantise(column: np.ndarray, j: int) -> np.ndarray:
        q[:, j] = np.clip(np.rint(column / safe[:, j]), -limit, limit)
        return np.where(np.isinf(safe[:, j]), 0.0, q[:, j] * safe[:, j])

    round_columns(matrix, feedback(hessian), quantise)
    return q


def seal(q: np.ndarray, k: int, group: int, unit: np.float32, scales: bytes, shape: tuple[int, ...]) -> bytes:
    symbols = pack(q.reshape(-1) + k, 2 * k + 1)
    return frame(CODEC, VERSION, [numbers([k, group, *shape]), unit.astype("<f4").tobytes(), scales, symbols])
