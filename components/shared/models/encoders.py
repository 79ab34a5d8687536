"""Weights as codes for storage: the ternary ones, and the buffer and the entry of any code."""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor

from .remote_code.ternary import pack_ternary, scale_of, trits_of


def encode_ternary(w: Tensor) -> bytes:
    """The absmean quantisation of W: float32 scale, then five trits a byte. Decodes to `ternarise(w)` exactly."""
    w = w.detach().cpu()
    scale = scale_of(w)
    return struct.pack("<f", scale.item()) + pack_ternary(trits_of(w, scale).numpy()).tobytes()


def stored(codec: str, code: bytes, shape: tuple[int, ...], **more: Any) -> tuple[dict[str, Any], Tensor]:
    """The entry of `config.storage` for a code (remote_code/coded.py), and the buffer that holds it.

    :param more: activations, norm, bias, as that entry has them.
    """
    buffer = torch.frombuffer(bytearray(code), dtype=torch.uint8)
    return {"codec": codec, "shape": list(shape), "bytes": len(code)} | more, buffer
