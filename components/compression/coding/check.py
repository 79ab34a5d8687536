"""What every encoder asks of a weight."""

from __future__ import annotations

import numpy as np

from components.shared.runtime.errors import InputError


def require_finite(w: np.ndarray) -> np.ndarray:
    """The weight as a contiguous float32 array.

    :raises InputError: it has NaN or infinite values, or no floating dtype.
    """
    if not np.issubdtype(np.asarray(w).dtype, np.floating):
        raise InputError(
            f"a weight of dtype {np.asarray(w).dtype}",
            why="codecs take floating-point weights",
            fix="give the model before it was quantised",
        )
    w = np.ascontiguousarray(w, np.float32)
    bad = int(np.size(w) - np.count_nonzero(np.isfinite(w)))
    if bad:
        raise InputError(
            f"{bad} of {w.size} weights are NaN or infinite",
            why="no code can stand for them",
            fix="find the phase that diverged: its metrics show a loss of NaN",
        )
    return w
