"""A preset at work on one tensor: its code, what reads it, and what it costs and loses there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.models.remote_code.decoders import decode as decode_stored

from . import registry, scalar
from .codec import Code, CodeFormat, presets_of
from .slabs import row_ranges


@dataclass(frozen=True)
class RateDistortion:
    """What a code of a tensor costs, in bytes, and the squared error of the layer's output that it causes, a token."""

    code: Code
    bytes: int
    error: float


def encode(
    name: str,
    w: np.ndarray,
    hessian: np.ndarray | None,
    *,
    seed: int,
    importance: np.ndarray | None = None,
) -> bytes:
    """The code of a weight by a preset.

    :param name: of the preset.
    :param w: (out, in) float32.
    :param hessian: (in, in) of the layer's inputs, or None.
    :param importance: (out,) what errors in each output weigh, or None. A transform mixes rows: a code behind one does not
        see it.
    :raises ConfigError: there is no such preset.
    :raises InputError: the weight has NaN or infinite values, or no floating dtype.
    :raises ValueError: a lossless preset for a tensor that it has no code for.
    """
    preset = registry.preset(name)
    codec = registry.codec(preset.codec)
    settings: dict[str, Any] = dict(preset.settings) | ({"seed": seed} if codec.seed else {})
    if importance is not None and codec.importance and preset.transform is None:
        settings["importance"] = importance

    def by_codec(w: np.ndarray, hessian: np.ndarray | None) -> bytes:
        return codec.encode(w, hessian, **settings) if codec.hessian else codec.encode(w, **settings)

    if preset.transform is None:
        return by_codec(w, hessian)
    return registry.transform(preset.transform).encode(w, hessian, by_codec, seed=seed % 4096)


def format_of(code: Code, slabs: int = 1) -> CodeFormat:
    """How a code in so many slabs is read. Of a chain only the last preset's code is stored."""
    preset = registry.preset(presets_of(code)[-1])
    codec = registry.codec(preset.codec)
    return CodeFormat(codec.decoder or codec.name, preset.transform, slabs > 1)


def decode(format: CodeFormat, code: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """What the artifact's own decoder makes of a code: float32 of that shape."""
    return decode_stored(format.spec() | {"shape": list(shape)}, code)


def decode_preset(name: str, code: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The same, for the code of one slab by a preset."""
    return decode(format_of(name), code, shape)


def worth_trying(names: Sequence[str], w: np.ndarray) -> list[str]:
    """The names among `names` that may be of use for w: for a ternary tensor, its exact code and what is cheaper."""
    if scalar.exact(w[:1]) is None:
        return list(names)
    size = 0
    for start, stop in row_ranges(*w.shape):
        code = scalar.exact(w[start:stop])
        if code is None:
            return list(names)
        size += len(code)
    cheaper = [name for name in names if registry.preset(name).bits < 0.9 * 8 * size / max(w.size, 1)]
    return [scalar.EXACT.name, *cheaper]


def scaled(sample: RateDistortion, share: float, slabs: int = 1) -> RateDistortion:
    """What a whole tensor costs, in so many slabs, by what a sample of its rows cost; each slab has its own codebook.

    :param sample: of a preset, no chain.
    :param share: whole / sample.
    """
    preset = registry.preset(presets_of(sample.code)[-1])
    codebook = registry.codec(preset.codec).codebook_bytes(preset.settings)
    size = round((sample.bytes - codebook) * share) + codebook * slabs
    return RateDistortion(sample.code, size, sample.error * share)
