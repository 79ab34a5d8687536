"""Uniform scalar quantisation with scales of groups: the plain codec, with or without error feedback. Encoding.

`encode` has 2k + 1 levels and the best scale for each group of a row: int8 and int4 as everyone knows them; `exact` is for
tensors that already are ternary. With a Hessian the columns are rounded with GPTQ's error feedback (hessian.py). Uniform
steps for an entropy coder are ectcq.py's with one state.
"""

from __future__ import annotations

import numpy as np

from components.shared.models.remote_code.decode_scalar import CODEC, VERSION, decode, spread

from ..coding.check import require_finite
from ..coding.hessian import error_feedback, round_columns
from ..coding.lossless import frame, pack, pack_numbers
from .codec import Codec, CodecPreset

__all__ = ["decode", "encode", "exact"]

SHRINK = np.linspace(0.4, 1.0, 25)  # of the scale that reaches the largest weight of a group


def encode(w: np.ndarray, hessian: np.ndarray | None = None, *, levels: int = 15, group: int = 64) -> bytes:
    """w, any shape, float32 → code with `levels` (odd) values for each group of neighbours in the last dimension.

    hessian (in, in) goes with a matrix (out, in). Each group's scale is the best of 25 in squared error.

    :raises InputError: w has NaN or infinite values or no floating dtype, or the Hessian is no finite square matrix.
    :raises ValueError: levels even or below 3, or a group below 1.
    """
    w, k = require_finite(w), levels // 2
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


def exact(w: np.ndarray) -> bytes | None:
    """The code of a tensor whose values are −s, 0 and s for one s: lossless. None for any other tensor.

    :raises InputError: w has NaN or infinite values, or no floating dtype.
    """
    w = require_finite(w)
    size = np.abs(w).max(initial=0.0).astype(np.float32)
    if not np.isin(np.abs(w), (0.0, size)).all():
        return None
    return seal(np.sign(w).astype(np.int64), 1, 0, size, b"", w.shape)


def normalised(w: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """The matrix (rows, last dimension) of w, float64, in units of its root mean square; and that unit, float32."""
    columns = w.shape[-1] if w.ndim else 1
    matrix = w.reshape(w.size // columns if columns else 0, columns).astype(np.float64)
    unit = np.float32(np.sqrt((matrix**2).mean())) if matrix.size else np.float32(0)
    return matrix / (np.float64(unit) if unit > 0 else 1.0), unit


def rounded(matrix: np.ndarray, scale: np.ndarray, k: int, hessian: np.ndarray | None) -> np.ndarray:
    """Integers −k … k (rows, columns) for the matrix under scales of that shape."""
    safe = np.where(scale > 0, scale, np.inf)
    if hessian is None:
        return np.clip(np.rint(matrix / safe), -k, k).astype(np.int64)
    q = np.zeros(matrix.shape, np.int64)

    def quantise(column: np.ndarray, j: int) -> np.ndarray:
        q[:, j] = np.clip(np.rint(column / safe[:, j]), -k, k)
        return q[:, j] * scale[:, j]

    round_columns(matrix, error_feedback(hessian), quantise)
    return q


def seal(q: np.ndarray, k: int, group: int, unit: np.float32, scales: bytes, shape: tuple[int, ...]) -> bytes:
    """The frame of integers −k … k, of the unit and the scales that they are multiples of, and of the tensor's shape."""
    symbols = pack(q.reshape(-1) + k, 2 * k + 1)
    return frame(
        CODEC, VERSION, [pack_numbers([k, group, *shape]), unit.astype("<f4").tobytes(), scales, symbols]
    )


def encode_exact(w: np.ndarray) -> bytes:
    """The code of a ternary tensor, without loss.

    :raises InputError: w has NaN or infinite values, or no floating dtype.
    :raises ValueError: it is not ternary.
    """
    code = exact(w)
    if code is None:
        raise ValueError("this tensor has no exact code: its values are not −s, 0 and s for one s")
    return code


PRESETS = (
    CodecPreset("int8", "scalar", 8.0, {"levels": 255, "group": 64}),
    CodecPreset("int4", "scalar", 4.0, {"levels": 15, "group": 64}),
)
EXACT = CodecPreset("exact", "exact", 1.57)
CODECS = (
    Codec(
        "scalar",
        "int8 and int4 by groups",
        "Frantar et al., GPTQ, arXiv 2210.17323",
        encode,
        PRESETS,
        hessian=True,
    ),
    Codec(
        "exact",
        "ternary weights as they are",
        "Ma et al., BitNet b1.58, arXiv 2402.17764",
        encode_exact,
        (EXACT,),
        decoder="scalar",
        lossless=True,
    ),
)
