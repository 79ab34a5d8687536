"""From stored bytes to weights.

A code is bytes that need nothing beside them. How they are read says an entry of `config.storage` (coded.py):
    "codec"      the decoder, decode_NAME.py
    "transform"  the transform that the weights went through before, undone by transform_NAME.py
    "slabs"      true where the code is one of slabs of rows, each with a code of its own (slabs.py)
"""

import math
from functools import partial

import numpy as np

from .decoder_table import (
    DECODERS,
    TRANSFORMS,  # if transform
    current_spec,  # if project
)
from .slabs import decode as decode_slabs  # if slabs


def decoder(spec):
    """The function bytes → weights for an entry of `config.storage`.

    :raises ValueError: the codec or the transform is not known here.
    """
    spec = current_spec(spec)  # if project
    if spec["codec"] not in DECODERS:
        raise ValueError(f"unknown codec {spec['codec']!r}; this model's code knows {', '.join(DECODERS)}")
    read = DECODERS[spec["codec"]]
    read = partial(TRANSFORMS[spec["transform"]], inner=read) if "transform" in spec else read  # if transform
    read = partial(decode_slabs, inner=read) if "slabs" in spec else read  # if slabs
    return read


def decode(spec, code):
    """The weight of a code.

    :param spec: an entry of `config.storage`: {"codec": …, "shape": […]} and, where there are any, "transform", "slabs".
    :param code: uint8 array or bytes.
    :returns: float32 array of that shape.
    :raises ValueError: the codec is unknown, or the code is damaged or holds too few weights.
    """
    size, read = math.prod(spec["shape"]), decoder(spec)
    try:
        weights = np.asarray(read(bytes(code)), dtype=np.float32).reshape(-1)
    except ValueError:
        raise
    except Exception as error:  # numbers in a header that no encoder wrote lead anywhere
        raise ValueError(f"a damaged {spec['codec']} code: {type(error).__name__}: {error}") from error
    if weights.size < size:
        raise ValueError(
            f"{spec['codec']} code holds {weights.size} weights, the shape {spec['shape']} needs {size}"
        )
    return weights[:size].reshape(spec["shape"])
