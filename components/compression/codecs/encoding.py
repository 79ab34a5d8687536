"""One entry of the menu put to work on one tensor, and what it costs and loses there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.models.remote_code.decoders import decode as decode_stored

from . import ectcq, hadamard, hyper, scalar, seedlm, trellis, vptq
from .presets import EXACT, MENU
from .slabs import cut


@dataclass(frozen=True)
class Point:
    """What a code of a tensor costs, in bytes, and the squared error of the layer's output that it causes, a token."""

    name: str
    bytes: int
    error: float


def encode(name: str, w: np.ndarray, hessian: np.ndarray | None, *, seed: int) -> bytes:
    """The code of w (out, in) by the menu's entry `name`, or "exact".

    :raises ValueError: "exact" for a tensor that is not ternary.
    """
    if name == EXACT:
        code = scalar.exact(w)
        if code is None:
            raise ValueError("this tensor has no exact code: its values are not −s, 0 and s for one s")
        return code
    turned, _, codec = MENU[name].codec.rpartition("+")
    settings = dict(MENU[name].settings)

    def plain(w: np.ndarray, hessian: np.ndarray | None) -> bytes:
        return encode_by(codec, w, hessian, settings, seed=seed)

    return hadamard.encode(w, hessian, plain, seed=seed % 4096) if turned else plain(w, hessian)


def encode_by(
    codec: str,
    w: np.ndarray,
    hessian: np.ndarray | None,
    settings: dict[str, Any],
    *,
    seed: int,
) -> bytes:
    """The code of w (out, in) by one codec."""
    if codec == "seedlm":
        return seedlm.encode(w, **settings)
    if codec == "ectcq":
        return ectcq.encode(w, hessian, **settings)
    if codec == "trellis":
        return trellis.encode(w, hessian, **settings)
    if codec == "hyper":
        return hyper.encode(w, **settings)
    if codec == "vptq":
        return vptq.encode(w, hessian, seed=seed, **settings)
    return scalar.encode(w, hessian, **settings)


def codec_of(name: str, slabs: int = 1) -> str:
    """The decoder that reads the codes of a menu entry, or of the last stage of a chain "a+b+c", in so many slabs."""
    codec = "scalar" if name == EXACT else MENU[name.rpartition("+")[2]].codec
    return codec if slabs == 1 else f"slabs+{codec}"


def read_by(codec: str, code: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """What the artifact's own decoder makes of a code: float32 of that shape."""
    return decode_stored(codec, code, {"shape": list(shape)})


def decode(name: str, code: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The same, for the code of one slab by a menu entry."""
    return read_by(codec_of(name), code, shape)


def worth_trying(names: Sequence[str], w: np.ndarray) -> list[str]:
    """The names among `names` that may be of use for w: for a ternary tensor, its exact code and what is cheaper."""
    if scalar.exact(w[:1]) is None:
        return list(names)
    size = 0
    for start, stop in cut(*w.shape):
        code = scalar.exact(w[start:stop])
        if code is None:
            return list(names)
        size += len(code)
    return [EXACT, *(name for name in names if MENU[name].bits < 0.9 * 8 * size / max(w.size, 1))]


def scaled(name: str, sampled: Point, share: float, slabs: int = 1) -> Point:
    """What a whole tensor costs, in so many slabs, by what a sample of its rows cost; each slab has its own codebook.

    share: whole / sample.
    """
    settings = {} if name == EXACT else MENU[name].settings
    book = int(2 * settings["length"] * settings["centroids"]) if "centroids" in settings else 0
    return Point(name, round((sampled.bytes - book) * share) + book * slabs, sampled.error * share)
