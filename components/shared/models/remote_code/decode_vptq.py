"""VPTQ (arXiv 2409.17066): vectors down the columns of a matrix, from codebooks. Decoding only.

A column of W (out, in) is cut into vectors of v rows. Each is a centroid of the main codebook plus, where there is
one, a centroid of the residual codebook; the columns marked as outliers have a codebook of their own. Rows may be
multiplied by a norm; all is in units of one scale of the tensor.
"""

from __future__ import annotations

import numpy as np

from .lossless import CodeError, count_of, unframe, unpack, unpack_numbers

CODEC, VERSION = 3, 1


def decode(code: bytes) -> np.ndarray:
    """A VPTQ code → the float32 weight in its own shape.

    :raises CodeError: the code was cut or altered, or is of another codec or version, or its
        codebooks are not those of its header.
    """
    head, unit, books, outliers, norms, *indices = unframe(code, CODEC, VERSION)
    (length, main, residual, outlier, *shape), _ = unpack_numbers(head)
    rows = shape[0] if shape else 1
    columns = count_of(shape, code) // max(rows, 1)
    centroids = np.frombuffer(books, "<f2").astype(np.float32)
    if len(centroids) != (main + residual + outlier) * length or not length:
        raise CodeError(
            f"a VPTQ code with {len(centroids)} centroid values; its header asks for another number"
        )
    codebooks = np.split(centroids.reshape(-1, length), [main, main + residual])
    special = np.unpackbits(
        np.frombuffer(outliers, np.uint8), count=columns if outlier else 0, bitorder="little"
    )
    special = special.astype(bool) if outlier else np.zeros(columns, bool)
    vectors = -(-rows // length)
    count_of((columns, vectors, length), code)
    w = np.empty((columns, vectors, length), np.float32)
    for codebook, part, chosen in zip(codebooks, indices, (~special, ~special, special), strict=True):
        if len(codebook):
            selected = int(chosen.sum())
            picked = codebook[unpack(part, selected * vectors, len(codebook))].reshape(
                selected, vectors, length
            )
            w[chosen] = w[chosen] + picked if codebook is codebooks[1] else picked
    w = w.reshape(columns, vectors * length).T[:rows]
    if norms:
        w = w * np.frombuffer(norms, "<f2").astype(np.float32)[:, None]
    return np.ascontiguousarray(w * np.frombuffer(unit, "<f4")[0], np.float32).reshape(shape)
