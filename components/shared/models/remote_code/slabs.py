"""The code of a large matrix: codes of slabs of its rows, one below the other. Decoding only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .lossless import CODE, PER_BYTE, CodeError, unframe, unpack_numbers

CODEC, VERSION = 8, 1


def slabs_of(code: bytes) -> tuple[list[int], list[bytes]]:
    """The matrix's shape, and the codes of its slabs from the top down.

    :raises CodeError: the code was cut or altered, or is of another codec or version.
    """
    head, *codes = unframe(code, CODEC, VERSION)
    return unpack_numbers(head)[0], codes


def decode(code: bytes, inner: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """A code of slabs → the float32 weight; `inner` decodes one slab.

    :raises CodeError: the code was cut or altered, or is of another codec or version; or the slabs do not make up
        the matrix of its header; or as `inner` does.
    """
    shape, codes = slabs_of(code)
    if math.prod(shape) > max(CODE * len(codes), PER_BYTE * len(code)):
        raise CodeError(f"{len(codes)} slabs in {len(code)} bytes that declare the shape {shape}")
    w = np.empty(shape, np.float32)
    row = 0
    for slab in codes:
        rows = inner(slab)
        if rows.shape[1:] != w.shape[1:] or row + len(rows) > len(w):
            raise CodeError(f"a slab of shape {rows.shape} from row {row} on in a matrix of shape {w.shape}")
        w[row : row + len(rows)] = rows
        row += len(rows)
    if row != len(w):
        raise CodeError(f"slabs of {row} rows in a matrix of {len(w)}")
    return w
