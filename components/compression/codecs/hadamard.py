"""Randomised Hadamard transform in front of any codec (QuIP#, arXiv 2402.04396, section 3). Encoding.

Codecs made for normal weights meet normal weights: outliers, heavy tails and loud columns spread over the whole matrix.
For squared errors it is no loss; where a codec can use uneven weights (ectcq, whose entropy coder thrives on them), it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from components.shared.models.remote_code.transform_hadamard import (
    CODEC,
    VERSION,
    transform_matrix,
    transform_rows,
)
from components.shared.models.remote_code.transform_hadamard import decode as decode

from ..coding.check import require_finite
from ..coding.lossless import frame, pack_numbers
from .codec import Transform

__all__ = ["decode", "encode"]


def encode(
    w: np.ndarray,
    hessian: np.ndarray | None,
    inner: Callable[[np.ndarray, np.ndarray | None], bytes],
    *,
    seed: int = 0,
) -> bytes:
    """w, any shape, float32 → the code that `inner` makes of the transformed w, its leading dimensions as rows.

    hessian (in, in), of the inputs of w, reaches `inner` transformed too. seed < 2^29 chooses the signs.

    :raises InputError: w has NaN or infinite values, or no floating dtype.
    """
    w = require_finite(w)
    columns = w.shape[-1] if w.ndim else 1
    matrix = w.reshape(w.size // columns if columns else 0, columns)
    if hessian is not None:
        half = transform_rows(np.asarray(hessian, np.float64), 2 * seed, False)
        hessian = transform_rows(half.T, 2 * seed, False).T
    code = inner(transform_matrix(matrix, seed).astype(np.float32), hessian)
    return frame(CODEC, VERSION, [pack_numbers([seed, *w.shape]), code])


TRANSFORMS = (
    Transform("hadamard", "randomised Hadamard transform", "QuIP#: Tseng et al., arXiv 2402.04396", encode),
)
