"""Uniform scalar quantisation with scales of groups, its integers entropy-coded. Decoding only.

weight = q · scale, q in −k … k. One scale for the whole tensor (group 0), or one for each `group` neighbours of a row:
float16, in units of the tensor's. k = 1 with one scale is a ternary tensor, kept exactly.
"""

from __future__ import annotations

import numpy as np

from .lossless import count_of, unframe, unpack, unpack_numbers

CODEC, VERSION = 1, 1


def spread(unit: np.float32, scales: np.ndarray, rows: int, columns: int, group: int) -> np.ndarray:
    """The scale of every weight: (rows, columns) float32, or () for group 0. scales: float16, row after row."""
    if group == 0:
        return np.asarray(unit, np.float32)
    wide = np.repeat(scales.reshape(rows, -(-columns // group)), min(group, columns), axis=1)[:, :columns]
    return wide.astype(np.float32) * unit


def decode(code: bytes) -> np.ndarray:
    """A scalar code → the float32 weight in its own shape.

    :raises CodeError: the code was cut or altered, or is of another codec or version.
    """
    head, unit, scales, symbols = unframe(code, CODEC, VERSION)
    (k, group, *shape), _ = unpack_numbers(head)
    count = count_of(shape, code)
    columns = shape[-1] if shape else 1
    rows = count // columns if columns else 0
    scale = spread(np.frombuffer(unit, "<f4")[0], np.frombuffer(scales, "<f2"), rows, columns, group)
    q = unpack(symbols, count, 2 * k + 1).astype(np.int32) - k
    return (q.reshape(rows, columns).astype(np.float32) * scale).reshape(shape)
