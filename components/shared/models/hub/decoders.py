"""From stored bytes to weights: one decoder for each codec, behind one lossless stage.

A code is self-contained bytes: a decoder takes them and nothing else. `meta["lossless"]` names the stage
around it: "none", "zlib" or "lzma" (raw LZMA2, preset 9). Layouts, little-endian:
    ternary     float32 scale, then base-3 trits, five a byte (ternary.py)
    int8, int4  uint8 bits, uint16 group, uint32 count; float16 scale for each group; values, two's
    complement,
                two a byte (low half first) for int4. weight = value · scale of its group
"""

import lzma
import math
import struct
import zlib

import numpy as np

from .decode_hyper import decode as decode_hyper  # if hyper
from .decode_scalar import decode as decode_scalar  # if scalar
from .decode_seedlm import decode as decode_seedlm  # if seedlm
from .decode_vptq import decode as decode_vptq  # if vptq
from .ternary import unpack_ternary

LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9}]


def decode_ternary(code):
    packed = np.frombuffer(code, np.uint8, offset=4)
    return unpack_ternary(packed, 5 * packed.size) * np.frombuffer(code, "<f4", 1)


def decode_grouped(code):
    bits, group, count = struct.unpack_from("<BHI", code)
    groups = -(-count // group)
    scales = np.frombuffer(code, "<f2", groups, offset=7).astype(np.float32)
    values = np.frombuffer(code, np.int8, offset=7 + 2 * groups)
    if bits == 4:
        values = np.stack([values << 4 >> 4, values >> 4], axis=-1).reshape(-1)
    return values[:count] * np.repeat(scales, group)[:count]


DECODERS = {
    "ternary": decode_ternary,
    "int8": decode_grouped,
    "int4": decode_grouped,
    "hyper": decode_hyper,  # if hyper
    "scalar": decode_scalar,  # if scalar
    "seedlm": decode_seedlm,  # if seedlm
    "vptq": decode_vptq,  # if vptq
}


def decode(codec, code, meta):
    """code: uint8 array or bytes; meta: {"shape": […], "lossless": …} → float32 array of that shape."""
    if codec not in DECODERS:
        raise ValueError(f"unknown codec {codec!r}; this artifact's code knows {', '.join(sorted(DECODERS))}")
    code = bytes(code)
    lossless = meta.get("lossless", "none")
    if lossless == "zlib":
        code = zlib.decompress(code)
    elif lossless == "lzma":
        code = lzma.decompress(code, lzma.FORMAT_RAW, filters=LZMA)
    elif lossless != "none":
        raise ValueError(f"unknown lossless stage {lossless!r}; known are none, zlib, lzma")
    shape = meta["shape"]
    weights = np.asarray(DECODERS[codec](code), dtype=np.float32).reshape(-1)
    if weights.size < math.prod(shape):
        raise ValueError(
            f"{codec} code holds {weights.size} weights, the shape {shape} needs {math.prod(shape)}"
        )
    return weights[: math.prod(shape)].reshape(shape)
