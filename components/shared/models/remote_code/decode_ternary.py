"""Ternary weights as an artifact stores them: float32 scale, then trits in base 3, five a byte. Decoding only."""

import numpy as np


def decode(code):
    """A ternary code → float32 weights, (n,), n being filled up to a multiple of five.

    :raises ValueError: a byte is no five trits in base 3, or the scale is cut short.
    """
    from .ternary import unpack_ternary  # which brings torch along: no other codec needs that

    packed = np.frombuffer(code, np.uint8, offset=4)
    return unpack_ternary(packed, 5 * packed.size) * np.frombuffer(code, "<f4", 1)
