"""Codes of weights for storage: what hub/decoders.py reads. The lossy codecs of the compression phase live
there."""

from __future__ import annotations

import lzma
import struct
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .hub.decoders import LZMA
from .hub.ternary import pack_ternary, scale_of, trits_of


def encode_ternary(w: Tensor) -> bytes:
    """The absmean quantisation of W: float32 scale, then five trits a byte. Decodes to `ternarise(w)` exactly."""
    w = w.detach().cpu()
    scale = scale_of(w)
    return struct.pack("<f", scale.item()) + pack_ternary(trits_of(w, scale).numpy()).tobytes()


def encode_grouped(w: Tensor, bits: int, group: int) -> bytes:
    """Round-to-nearest with one float16 absmax scale for each run of `group` weights (row-major).

    :param bits: 8 or 4; values lie in ±(2^(bits−1) − 1).
    """
    if bits not in (4, 8):
        raise ValueError(f"grouped codes have 4 or 8 bits, not {bits}")
    flat = w.detach().float().cpu().numpy().reshape(-1)
    padded = np.pad(flat, (0, -flat.size % group)).reshape(-1, group)
    top = 2 ** (bits - 1) - 1
    scales = (np.abs(padded).max(1) / top).astype("<f2")
    step = np.where(scales > 0, scales, 1).astype(np.float32)[:, None]
    values = np.clip(np.rint(padded / step), -top, top).astype(np.int8).reshape(-1)[: flat.size]
    if bits == 4:
        pairs = np.pad(values, (0, values.size % 2)).reshape(-1, 2)
        values = (pairs[:, 0] & 15) | (pairs[:, 1] << 4)
    return struct.pack("<BHI", bits, group, flat.size) + scales.tobytes() + values.tobytes()


def squeeze(code: bytes, lossless: str) -> bytes:
    """The lossless stage around a code: "none", "zlib" or "lzma"."""
    if lossless == "zlib":
        return zlib.compress(code, 9)
    if lossless == "lzma":
        return lzma.compress(code, lzma.FORMAT_RAW, filters=LZMA)
    if lossless != "none":
        raise ValueError(f"unknown lossless stage {lossless!r}; known are none, zlib, lzma")
    return code


def stored(codec: str, code: bytes, shape: tuple[int, ...], **more: Any) -> tuple[dict[str, Any], Tensor]:
    """The entry of `config.storage` for a code (coded.py) and the buffer that holds it.

    :param more: lossless, activations, norm, bias.
    """
    buffer = torch.frombuffer(bytearray(code), dtype=torch.uint8)
    return {"codec": codec, "shape": list(shape), "bytes": len(code)} | more, buffer
