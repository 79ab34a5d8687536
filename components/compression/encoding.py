"""One entry of the menu put to work on one tensor, and what it costs and loses there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.models.hub.decoders import decode as decode_stored

from . import ectcq, hadamard, hyper, scalar, seedlm, trellis, vptq
from .hessian import weighted_error
from .menu import EXACT, MENU


@dataclass(frozen=True)
class Point:
    """What a code of a tensor costs, in bytes, and the squared error of the layer's output that it causes, a token."""

    name: str
    bytes: int
    error: float


def encode(name: str, w: np.ndarray, hessian: np.ndarray | None, *, seed: int, threads: int) -> bytes:
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
        return encode_by(codec, w, hessian, settings, seed=seed, threads=threads)

    return hadamard.encode(w, hessian, plain, seed=seed % 4096) if turned else plain(w, hessian)


def encode_by(
    codec: str,
    w: np.ndarray,
    hessian: np.ndarray | None,
    settings: dict[str, Any],
    *,
    seed: int,
    threads: int,
) -> bytes:
    """The code of w (out, in) by one codec."""
    if codec == "seedlm":
        return seedlm.encode(w, threads=threads, **settings)
    if codec == "ectcq":
        return ectcq.encode(w, hessian, threads=threads, **settings)
    if codec == "trellis":
        return trellis.encode(w, hessian, threads=threads, **settings)
    if codec == "hyper":
        return hyper.encode(w, **settings)
    if codec == "vptq":
        return vptq.encode(w, hessian, seed=seed, **settings)
    return (scalar.encode_uniform if "step" in settings else scalar.encode)(w, hessian, **settings)


def codec_of(name: str) -> str:
    """The decoder that reads the codes of a menu entry, or of the last stage of a chain "a+b+c"."""
    return "scalar" if name == EXACT else MENU[name.rpartition("+")[2]].codec


def decode(name: str, code: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """What the artifact's own decoder makes of a code: float32 of that shape."""
    return decode_stored(codec_of(name), code, {"shape": list(shape)})


def worth_trying(names: Sequence[str], w: np.ndarray) -> list[str]:
    """The names among `names` that may be of use for w: for a ternary tensor, its exact code and what is cheaper."""
    if scalar.exact(w[:1]) is None or (code := scalar.exact(w)) is None:
        return list(names)
    bits = 8 * len(code) / max(w.size, 1)
    return [EXACT, *(name for name in names if MENU[name].bits < 0.9 * bits)]


def sample_of(w: np.ndarray, limit: int) -> np.ndarray:
    """Rows of w (out, in), evenly spread, of at most `limit` weights together; w itself where it is no larger."""
    rows = max(limit // max(w.shape[1], 1), 1)
    return w if rows >= len(w) else w[np.linspace(0, len(w) - 1, rows).astype(int)]


def measure(
    name: str, w: np.ndarray, hessian: np.ndarray | None, *, seed: int, threads: int, sample: int
) -> tuple[Point, bytes | None]:
    """Encode w, or a sample of its rows where it is larger than `sample` weights → its point, and the code if whole.

    From a sample, bytes and error are scaled up by the rows; a codebook is counted once.
    """
    part = sample_of(w, sample)
    code = encode(name, part, hessian, seed=seed, threads=threads)
    error = weighted_error(part, decode(name, code, part.shape), hessian)
    if part is w:
        return Point(name, len(code), error), code
    settings = {} if name == EXACT else MENU[name].settings
    once = int(2 * settings["length"] * settings["centroids"]) if "centroids" in settings else 0
    share = len(w) / len(part)
    return Point(name, round((len(code) - once) * share) + once, error * share), None
