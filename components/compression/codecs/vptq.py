"""VPTQ (arXiv 2409.17066): vector quantisation of a layer against the error of its output. Encoding.

The columns of W (out, in) are cut into vectors of `length` rows. Codebooks come from k-means in which a vector of
column j weighs H_jj; then the columns are quantised one by one, nearest centroids each, and the error of each is
carried into the columns still to come by H⁻¹ (hessian.py), in blocks of 128. Options of the paper: a residual
codebook, a codebook of their own for the outlier columns (those with the largest H_jj), and norms of the rows. On a small
layer a codebook may cost more than the indices into it: asked for a rate, it takes the length and the number of centroids
that err least in so many bytes, all counted.
Centroids and norms are stored, and used while quantising, in float16, in units of the tensor's root mean square.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from components.shared.models.remote_code.decode_vptq import CODEC, VERSION, decode

from ..coding.check import require_finite
from ..coding.hessian import error_feedback, round_columns
from ..coding.kmeans import kmeans, nearest
from ..coding.lossless import frame, pack, pack_numbers
from .codec import Codec, CodecPreset

__all__ = ["decode", "encode"]

SAMPLE = 1 << 16  # weights that decide on the size of a codebook


def encode(
    w: np.ndarray,
    hessian: np.ndarray | None = None,
    *,
    length: int = 4,
    centroids: int = 256,
    residual: int = 0,
    outliers: float = 0.0,
    outlier_centroids: int = 256,
    norms: bool = False,
    bits: float | None = None,
    seed: int = 0,
) -> bytes:
    """The code of w (out, …) float32, its inputs flattened.

    hessian (in, in) = E[xᵀx] of the calibration inputs, or None.

    length, centroids, residual, outlier_centroids: the paper's v, k1, k2 (0: none) and k0; outliers: the share of
    columns with a codebook of their own; norms: divide each row by its root mean square first. bits: instead of v and k1,
    what a weight may cost, the codebook counted.

    :raises InputError: w has NaN or infinite values or no floating dtype, or the Hessian is no finite square matrix.
    :raises ValueError: a length or a codebook below 1 (residual: 0), a share of outliers outside [0, 1), or
        bits outside (0, 8].
    """
    w = require_finite(w)
    if length < 1 or centroids < 1 or residual < 0 or not 0 <= outliers < 1 or outlier_centroids < 1:
        raise ValueError(
            f"VPTQ needs v ≥ 1, k ≥ 1 and a share of outliers in [0, 1); got v={length}, k={centroids}, "
            f"residual={residual}, outliers={outliers}"
        )
    if bits is not None and not 0 < bits <= 8:
        raise ValueError(f"VPTQ needs a rate above 0 and at most 8 bits a weight; got {bits}")
    rows = w.shape[0] if w.ndim else 1
    columns = w.size // rows if rows else 0
    matrix = w.reshape(rows, columns).astype(np.float64)
    rng = np.random.default_rng(seed)
    unit = np.float32(np.sqrt((matrix**2).mean())) if matrix.size else np.float32(0)
    matrix /= np.float64(unit) if unit > 0 else 1.0
    scale = to_float16(np.sqrt((matrix**2).mean(axis=1))) if norms and columns else np.ones(rows)
    matrix = matrix / np.where(scale > 0, scale, 1.0)[:, None]
    importance = np.ones(columns) if hessian is None else np.maximum(np.diag(hessian).astype(np.float64), 0.0)
    if bits is not None:
        length, centroids = codebook_shape(matrix, importance, bits, rng)
    outlier_columns = np.zeros(columns, bool)
    outlier_columns[np.argsort(-importance, kind="stable")[: int(np.ceil(outliers * columns))]] = True
    vectors = column_vectors(matrix, length)
    matrix = np.pad(matrix, ((0, -rows % length), (0, 0)))
    weight = np.repeat(importance[:, None], vectors.shape[1], axis=1)
    main_book = codebook(vectors[~outlier_columns], weight[~outlier_columns], centroids, rng)
    residual_book = np.zeros((0, length), np.float32)
    if residual:
        plain = vectors[~outlier_columns].reshape(-1, length)
        residual_book = codebook(
            plain - main_book[nearest(plain, main_book)], weight[~outlier_columns], residual, rng
        )
    outlier_book = np.zeros((0, length), np.float32)
    if outlier_columns.any():
        outlier_book = codebook(vectors[outlier_columns], weight[outlier_columns], outlier_centroids, rng)
    index = np.zeros((3, columns, vectors.shape[1]), np.int64)  # main, residual, outlier

    def quantise(column: np.ndarray, j: int) -> np.ndarray:
        vector = column.reshape(-1, length).astype(np.float32)
        if outlier_columns[j]:
            index[2, j] = nearest(vector, outlier_book)
            return outlier_book[index[2, j]].reshape(-1)
        index[0, j] = nearest(vector, main_book)
        value = main_book[index[0, j]]
        if residual:
            index[1, j] = nearest(vector - value, residual_book)
            value = value + residual_book[index[1, j]]
        return value.reshape(-1)

    round_columns(matrix, error_feedback(hessian), quantise)
    codebooks = np.concatenate([main_book, residual_book, outlier_book]).astype("<f2").tobytes()
    chosen = (~outlier_columns, ~outlier_columns, outlier_columns)
    sizes = (len(main_book), len(residual_book), len(outlier_book))
    return frame(
        CODEC,
        VERSION,
        [
            pack_numbers([length, len(main_book), len(residual_book), len(outlier_book), *w.shape]),
            unit.astype("<f4").tobytes(),
            codebooks,
            np.packbits(outlier_columns, bitorder="little").tobytes() if outlier_columns.any() else b"",
            scale.astype("<f2").tobytes() if norms else b"",
            *(
                pack(part[selected], size) if size else b""
                for part, selected, size in zip(index, chosen, sizes, strict=True)
            ),
        ],
    )


def column_vectors(matrix: np.ndarray, length: int) -> np.ndarray:
    """(rows, columns) → the vectors down its columns, (columns, vectors, length) float32, filled up with zeros."""
    padded = np.pad(matrix, ((0, -len(matrix) % length), (0, 0)))
    return padded.T.reshape(matrix.shape[1], len(padded) // length, length).astype(np.float32)


def codebook_shape(
    matrix: np.ndarray, importance: np.ndarray, bits: float, rng: np.random.Generator
) -> tuple[int, int]:
    """The length of vectors and the number of centroids of least weighted error that cost `bits` a weight at most.

    Of every length up to 4 the largest codebook that can be paid for is tried on SAMPLE weights. (1, 1) where none can.
    """
    best, least = (1, 1), np.inf
    number = np.arange(2, 1025)
    for length in (1, 2, 3, 4):
        vectors = column_vectors(matrix, length)
        count = vectors.shape[0] * vectors.shape[1]
        cost = count * np.log2(number) / 8 + 2 * number * (
            length + 1
        )  # indices; centroids and their frequencies
        paid = number[cost <= bits * matrix.size / 8]
        if len(paid):
            weight = np.repeat(importance[:, None], vectors.shape[1], axis=1).reshape(-1)
            step = max(matrix.size // SAMPLE, 1)
            sample, weight = vectors.reshape(-1, length)[::step], weight[::step]
            centres = codebook(sample, weight, int(paid[-1]), rng)
            error = float(
                (weight[:, None] * (sample - centres[nearest(sample, centres)]) ** 2).sum()
                / len(sample)
                / length
            )
            if error < least:
                best, least = (length, int(paid[-1])), error
    return best


def to_float16(values: np.ndarray) -> np.ndarray:
    """Rounded to float16's values; beyond its range, to its largest."""
    return np.clip(values, -65504.0, 65504.0).astype(np.float16).astype(np.float64)


def codebook(vectors: np.ndarray, weights: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Centroids (k, v) as the decoder will see them: float16 values in float32."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    return to_float16(kmeans(flat, weights.reshape(-1), k, rng)).astype(np.float32)


def codebook_bytes(settings: Mapping[str, float]) -> int:
    """Of the main codebook, in float16; 0 where its size follows from the tensor's."""
    return int(2 * settings.get("length", 0) * settings.get("centroids", 0))


# The presets turn weights by the Hadamard transform first, as trellis.py's do: on layers of a real model that is worth 2 to
# 3 dB at the same bits.
PRESETS = (
    CodecPreset("vptq 4", "vptq", 4.0, {"length": 2, "centroids": 256}, transform="hadamard"),
    CodecPreset("vptq 3", "vptq", 3.0, {"length": 2, "centroids": 64}, transform="hadamard"),
    CodecPreset("vptq 2", "vptq", 2.0, {"length": 4, "centroids": 256}, transform="hadamard"),
    CodecPreset("vptq 3, sized", "vptq", 3.0, {"bits": 3.0}, transform="hadamard"),
    CodecPreset("vptq 2, sized", "vptq", 2.0, {"bits": 2.0}, transform="hadamard"),
    CodecPreset("vptq 1.5", "vptq", 1.5, {"length": 4, "centroids": 64}, transform="hadamard"),
    CodecPreset("vptq 1", "vptq", 1.0, {"length": 4, "centroids": 16}, transform="hadamard"),
)
CODECS = (
    Codec(
        "vptq",
        "VPTQ",
        "Liu et al., arXiv 2409.17066",
        encode,
        PRESETS,
        hessian=True,
        seed=True,
        codebook_bytes=codebook_bytes,
    ),
)
