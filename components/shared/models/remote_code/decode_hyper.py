"""Hyper-Compression (arXiv 2409.00592): pairs of weights as places on a winding line. Decoding only.

A line of slope ⌈√U⌉ winds through the square of side l around the centroid of all pairs; a pair is the number of the
nearest of U points on it (or of the centroid itself, number 0). Pairs outside the square were drawn in radially by
the factor (l/2) / (l/2 + class·(farthest − l/2)/M). index = number + (U + 1)·class.
"""

from __future__ import annotations

import numpy as np

from .lossless import CodeError, count_of, unframe, unpack, unpack_numbers

CODEC, VERSION = 4, 1
MOST = 1 << 20  # points, and classes


def trajectory(points: int, side: float) -> np.ndarray:
    """(points + 1, 2) float64, relative to the centroid: the centroid, then θ = 0, 1, … along the line."""
    n = max(int(np.ceil(np.sqrt(points))), 1)
    theta = np.arange(points)
    line = np.stack([theta / n % n, theta % n], axis=1) * (side / n) - side / 2
    return np.concatenate([np.zeros((1, 2)), line])


def class_radii(side: float, farthest: float, classes: int) -> np.ndarray:
    """(classes + 1,) float64: how far the pairs of each class lie from the centroid at most; class 0 is inside."""
    outer = max(farthest - side / 2, 0.0) / max(classes, 1)
    return side / 2 + outer * np.arange(classes + 1)


def decode(code: bytes) -> np.ndarray:
    """A Hyper-Compression code → the float32 weight in its own shape.

    :raises CodeError: the code was cut or altered, or is of another codec or version, or no encoder wrote its header.
    """
    head, figures, packed = unframe(code, CODEC, VERSION)
    (points, classes, *shape), _ = unpack_numbers(head)
    centre_x, centre_y, side, farthest = np.frombuffer(figures, "<f4").astype(np.float64)
    if not 1 <= points <= MOST or classes > MOST or not side >= 0:
        raise CodeError(f"a Hyper-Compression code with U={points}, l={side}, which cannot have been written")
    count = count_of(shape, code)
    index = unpack(packed, -(-count // 2), (points + 1) * (classes + 1))
    group, number = np.divmod(index, points + 1)
    stretch = class_radii(side, farthest, classes) / (side / 2 if side > 0 else 1.0)
    pairs = trajectory(points, side)[number] * stretch[group][:, None] + np.array([centre_x, centre_y])
    return pairs.astype(np.float32).reshape(-1)[:count].reshape(shape)
