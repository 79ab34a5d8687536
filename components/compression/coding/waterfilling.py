"""Steps of their own for the columns of a matrix: fine where errors weigh much, coarse where they do not.

With GPTQ's feedback (hessian.py) the error of the output is Σ_j d_j Σ_i (steps of column j)², d_j being what is left of
column j's input once the columns after it have made up for its errors. Under an entropy coder a column's rate falls by
the logarithm of its step, so that the least error at a rate has d_j·step_j² the same for all columns: waterfilling. Equal
steps lose the ratio of the arithmetic to the geometric mean of d to it (WaterSIC, Lifar et al., arXiv 2603.04956).
"""

from __future__ import annotations

import numpy as np

SHORT = 16  # lines of fewer weights are not looked at
TABLE = 8  # bytes, about, that a list of whole numbers takes beside its symbols
TRUST = 0.5  # of what is saved where rates are high: at two bits a weight it is less


def column_steps(weights: np.ndarray, across: int, fine: int) -> np.ndarray:
    """Whole numbers (n,), in 1/fine octaves: steps in proportion to weights^−½, their mean about 0.

    :param weights: (n,) > 0, of lines of `across` weights each.
    """
    octaves = np.log2(np.asarray(weights, np.float64)) / 2
    return rounded_octaves(octaves.mean() - octaves, across, fine) if len(octaves) else np.zeros(0, np.int64)


def line_sizes(squares: np.ndarray, across: int, fine: int) -> np.ndarray:
    """Whole numbers (n,), in 1/fine octaves: the root mean squares of lines, against 1.

    :param squares: (n,), the mean squares of lines of `across` weights each.
    """
    return rounded_octaves(np.log2(np.maximum(squares, 2.0**-20)) / 2, across, fine)


def rounded_octaves(octaves: np.ndarray, across: int, fine: int) -> np.ndarray:
    """Octaves (n,) in 1/fine: rounded as finely as it pays to write them down; all 0 where it does not pay at all.

    What is not written costs half the logarithm of the arithmetic over the geometric mean of its squares, a weight.
    """
    best, least = np.zeros(len(octaves), np.int64), np.inf
    for coarse in (0, fine, fine // 2, 1):
        index = np.rint(octaves * fine / coarse).astype(np.int64) * coarse if coarse else best
        if len(index) and across >= SHORT:
            rest = 2 * (octaves - index / fine)
            lost = (np.log2(np.exp2(rest).mean()) - rest.mean()) / 2 * len(index) * across * TRUST
            cost = lost + description_bits(index)
            if cost < least:
                best, least = index, cost
    return best


def description_bits(index: np.ndarray) -> float:
    """Bits, about, that it takes to write whole numbers down."""
    if not index.any():
        return 0.0
    _, counts = np.unique(index, return_counts=True)
    return float(8 * TABLE - (counts * np.log2(counts / len(index))).sum())
