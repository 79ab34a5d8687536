"""Large matrices in slabs of rows: encoders need some eighty bytes a weight for themselves, and slabs bound that.

Slabs are also what several processes can do at once of one tensor. A code of several is a frame of their codes
(remote_code/slabs.py); a matrix of one slab has that slab's code and no frame around it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from components.shared.models.remote_code.slabs import CODEC, VERSION, slabs_of

from ..coding.lossless import frame, pack_numbers
from .codec import CodeFormat

LARGEST = 1 << 22  # weights of a slab; a row that is longer is a slab of its own


def row_ranges(rows: int, columns: int, largest: int = LARGEST) -> list[tuple[int, int]]:
    """The first row of each slab and the one after its last: as few slabs as there can be, all about as high."""
    count = max(-(-rows // max(largest // max(columns, 1), 1)), 1)
    edges = [rows * number // count for number in range(count + 1)]
    return list(itertools.pairwise(edges))


def join(codes: Sequence[bytes], shape: Sequence[int]) -> bytes:
    """The code of a matrix of this shape from the codes of its slabs, from the top down."""
    return codes[0] if len(codes) == 1 else frame(CODEC, VERSION, [pack_numbers(shape), *codes])


def split(format: CodeFormat, code: bytes) -> tuple[CodeFormat, list[bytes]]:
    """The codes of the slabs of a matrix, from the top down, and how each of them is read."""
    return replace(format, slabs=False), slabs_of(code)[1] if format.slabs else [code]
