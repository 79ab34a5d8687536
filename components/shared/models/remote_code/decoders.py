"""From stored bytes to weights: one decoder for each codec.

A code is bytes that need nothing beside them: a decoder takes them alone. The entropy coding, where there is any, is
the codec's own.
    ternary  float32 scale, then trits in base 3, five a byte (ternary.py)
    scalar, seedlm, vptq, hyper, trellis, ectcq  see decode_*.py
    hadamard+X  a code of codec X of the weights after a Hadamard transform
    slabs+X     codes of codec X of slabs of rows (decode_slabs.py)
"""

import math
from functools import partial

import numpy as np

from .decode_ectcq import decode as decode_ectcq  # if ectcq
from .decode_hadamard import decode as decode_hadamard  # if hadamard
from .decode_hyper import decode as decode_hyper  # if hyper
from .decode_scalar import decode as decode_scalar  # if scalar
from .decode_seedlm import decode as decode_seedlm  # if seedlm
from .decode_slabs import decode as decode_slabs  # if slabs
from .decode_trellis import decode as decode_trellis  # if trellis
from .decode_vptq import decode as decode_vptq  # if vptq


def decode_ternary(code):
    from .ternary import unpack_ternary  # which brings torch along: no other codec needs that

    packed = np.frombuffer(code, np.uint8, offset=4)
    return unpack_ternary(packed, 5 * packed.size) * np.frombuffer(code, "<f4", 1)


DECODERS = {
    "ternary": decode_ternary,
    "ectcq": decode_ectcq,  # if ectcq
    "hyper": decode_hyper,  # if hyper
    "scalar": decode_scalar,  # if scalar
    "seedlm": decode_seedlm,  # if seedlm
    "trellis": decode_trellis,  # if trellis
    "vptq": decode_vptq,  # if vptq
}


AROUND = {
    "hadamard": decode_hadamard,  # if hadamard
    "slabs": decode_slabs,  # if slabs
}


def decode(codec, code, meta):
    """code: uint8 array or bytes; meta: {"shape": […]} → float32 array of that shape."""
    *around, name = codec.split("+")
    if name not in DECODERS or not {*around} <= {*AROUND}:
        raise ValueError(f"unknown codec {codec!r}; this artifact's code knows {', '.join(sorted(DECODERS))}")
    size = math.prod(meta["shape"])
    read = DECODERS[name]
    for outer in reversed(around):
        read = partial(AROUND[outer], inner=read)
    weights = np.asarray(read(bytes(code)), dtype=np.float32).reshape(-1)
    if weights.size < size:
        raise ValueError(f"{codec} code holds {weights.size} weights, the shape {meta['shape']} needs {size}")
    return weights[:size].reshape(meta["shape"])
