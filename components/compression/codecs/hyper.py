"""Hyper-Compression (arXiv 2409.00592): pairs of weights as places on a winding line. Encoding.

As the authors' code: pairs (w[2i], w[2i+1]) in a square of side l around their centroid go to the nearest of U points
of an ergodic line, in effect a sheared square lattice; pairs outside are drawn in radially, in M classes of distance,
and scaled back when decoded. The paper fixes l by hand for each model; here it is the one with the least squared error
on a sample, between .3 and 19 times the tensor's deviation, unless given.
"""

from __future__ import annotations

import numpy as np

from components.shared.models.remote_code.decode_hyper import CODEC, VERSION, class_radii, decode, trajectory

from ..coding.check import require_finite
from ..coding.lossless import frame, pack, pack_numbers
from .codec import Codec, CodecPreset

__all__ = ["decode", "encode"]

SAMPLE = 1 << 11  # pairs that choose l


def encode(w: np.ndarray, *, points: int = 1600, classes: int = 1, side: float | None = None) -> bytes:
    """w, any shape, float32 → code. points, classes, side: the paper's U, M and l. Odd sizes are padded by the mean.

    :raises InputError: w has NaN or infinite values, or no floating dtype.
    :raises ValueError: points below 1, or negative classes.
    """
    w = require_finite(w)
    if points < 1 or classes < 0:
        raise ValueError(f"Hyper-Compression needs U ≥ 1 and M ≥ 0; got U={points}, M={classes}")
    flat = w.reshape(-1).astype(np.float64)
    if flat.size % 2:
        flat = np.append(flat, flat.mean())
    pairs = flat.reshape(-1, 2)
    centre = pairs.mean(axis=0).astype(np.float32) if len(pairs) else np.zeros(2, np.float32)
    pairs = pairs - centre.astype(np.float64)
    distance = np.sqrt((pairs**2).sum(axis=1))
    farthest = np.float32(distance.max()) if len(pairs) else np.float32(0)
    farthest = np.nextafter(farthest, np.float32(np.inf), dtype=np.float32) if farthest > 0 else farthest
    if side is None:
        side = best_side(pairs, points, classes, float(farthest))
    l = np.float32(side)
    index = quantise_pairs(pairs, points, classes, float(l), float(farthest))
    figures = np.array([*centre, l, farthest], "<f4").tobytes()
    return frame(
        CODEC,
        VERSION,
        [pack_numbers([points, classes, *w.shape]), figures, pack(index, (points + 1) * (classes + 1))],
    )


def best_side(pairs: np.ndarray, points: int, classes: int, farthest: float) -> float:
    """The l of least squared error on an even sample of the pairs (n, 2)."""
    sample = pairs[:: max(len(pairs) // SAMPLE, 1)]
    deviation = float(np.sqrt((sample**2).mean())) if len(sample) else 0.0
    if deviation == 0.0:
        return 0.0

    def error(side: float) -> float:
        index = quantise_pairs(sample, points, classes, side, farthest)
        group, number = np.divmod(index, points + 1)
        stretch = class_radii(side, farthest, classes) / (side / 2)
        return float(((sample - trajectory(points, side)[number] * stretch[group][:, None]) ** 2).sum())

    def best(shares: np.ndarray) -> float:
        return min((float(np.float32(deviation * share)) for share in shares), key=error)

    near = best(np.geomspace(0.5, 12.0, 6)) / deviation
    return best(near * np.geomspace(0.6, 1.6, 5))


def quantise_pairs(pairs: np.ndarray, points: int, classes: int, side: float, farthest: float) -> np.ndarray:
    """Pairs (n, 2), relative to the centroid → index (n,) int64 = number of the nearest point + (U + 1)·class."""
    if side == 0.0:
        return np.zeros(len(pairs), np.int64)
    inside = (np.abs(pairs) <= side / 2).all(axis=1)
    limits = class_radii(side, farthest, classes)
    distance = np.sqrt((pairs**2).sum(axis=1))
    group = np.where(inside, 0, np.minimum(np.searchsorted(limits, distance), classes))
    drawn_in = pairs * ((side / 2) / limits[group])[:, None]
    return nearest(drawn_in, points, side) + (points + 1) * group


def nearest(pairs: np.ndarray, points: int, side: float) -> np.ndarray:
    """The number (n,) int64 of the nearest point of the trajectory, without a search.

    Point θ = a·n + b lies in row b (y = b·l/n) at x = (a + b/n)·l/n: the nearest is in the row below or above, next to
    the pair's own x; near the border rows one further are looked at too, for the last a is not the same in all.
    """
    n = max(int(np.ceil(np.sqrt(points))), 1)
    line = trajectory(points, side)
    x, y = ((pairs + side / 2) * (n / side)).T
    best = np.zeros(len(pairs), np.int64)
    least = (pairs**2).sum(axis=1)  # to the centroid, number 0
    for row in (-1, 0, 1, 2):
        b = np.clip(np.floor(y).astype(np.int64) + row, 0, min(n, points) - 1)
        last = (points - 1 - b) // n
        a = np.floor(x - b / n).astype(np.int64)
        for column in (0, 1):
            number = np.clip(a + column, 0, last) * n + b + 1
            square = ((pairs - line[number]) ** 2).sum(axis=1)
            closer = square < least
            best[closer], least[closer] = number[closer], square[closer]
    return best


PRESETS = (
    CodecPreset("hyper 1600", "hyper", 5.3, {"points": 1600, "classes": 1}),
    CodecPreset("hyper 256", "hyper", 4.0, {"points": 256, "classes": 1}),
    CodecPreset("hyper 64", "hyper", 3.0, {"points": 64, "classes": 1}),
    CodecPreset("hyper 16", "hyper", 2.0, {"points": 16, "classes": 1}),
)
CODECS = (Codec("hyper", "Hyper-Compression", "Fan et al., arXiv 2409.00592", encode, PRESETS),)
