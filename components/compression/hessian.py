"""The Hessian of a layer's output error, and the column-by-column rounding that uses it.

For y = x Wᵀ the squared error of the output is tr(Δ H Δᵀ) with H = E[xᵀx] (in, in). Rounding one column of W and
moving its error into the columns not yet rounded keeps that error small (OBQ; GPTQ, arXiv 2210.17323): with U upper
triangular and UᵀU = H⁻¹, the columns after j change by −(w_j − q_j) / U_jj · U_j.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from components.shared.runtime.errors import InputError


def weighted_error(w: np.ndarray, decoded: np.ndarray, hessian: np.ndarray | None) -> float:
    """tr(Δ H Δᵀ) with Δ = w − decoded, both (out, in); H (in, in), (in,) its diagonal, or None for the identity."""
    delta = (np.asarray(w, np.float64) - decoded).reshape(len(w), -1) if np.ndim(w) else np.zeros((1, 1))
    if hessian is None:
        return float((delta**2).sum())
    if hessian.ndim == 1:
        return float((delta**2 @ hessian).sum())
    return float(((delta @ hessian.astype(np.float64)) * delta).sum())


def inverse_factor(hessian: np.ndarray, damping: float = 0.01) -> np.ndarray:
    """U (in, in) float64, upper triangular, UᵀU = (H + damping·mean(diag H)·I)⁻¹. Unused inputs are kept by the damping."""
    h = np.asarray(hessian, np.float64)
    if h.ndim != 2 or h.shape[0] != h.shape[1] or not np.isfinite(h).all():
        raise InputError(
            f"a Hessian of shape {h.shape}", why="a finite square matrix is needed", fix="calibrate again"
        )
    mean = float(np.trace(h)) / max(len(h), 1)
    h = h + np.eye(len(h)) * (damping * mean if mean > 0 else 1.0)
    return np.linalg.cholesky(np.linalg.inv(h)).T


ROUNDS = 3  # to find the water level
FLOOR = 0.01  # of the mean input, as in GPTQ: Hessians are only estimates


class Feedback(NamedTuple):
    """How errors of columns are carried on. order (in,): which column comes when; factor (in, in): U of H in that order."""

    order: np.ndarray
    factor: np.ndarray

    @property
    def left(self) -> np.ndarray:
        """(in,) by column: what of its input is left to err with, 1/U_jj²; the output's error is Σ left · error²."""
        found = np.empty(len(self.order))
        found[self.order] = 1 / np.diag(self.factor) ** 2
        return found


def feedback(hessian: np.ndarray | None, noise: float | None = None) -> Feedback | None:
    """The most important inputs, those of the largest second moment, are rounded first. No Hessian: no feedback.

    :param noise: what the quantiser will err, squared, against the weights' mean square; None: GPTQ's damping. Inputs of
        less power than the error itself are not worth moving weights for: the damping is waterfilling's level then,
        t = noise · det(H + tI)^(1/in), and at least FLOOR.

    The latest one is remembered for a Hessian that nobody may write to, as those mapped from files are: the slabs of a
    tensor ask for the same, one after another.
    """
    if hessian is None:
        return None
    if hessian.flags.writeable:
        return _feedback(hessian, noise)
    if not (_latest and _latest[0][0] is hessian and _latest[0][1] == noise):
        _latest[:] = [(hessian, noise, _feedback(hessian, noise))]
    return _latest[0][2]


_latest: list[tuple[np.ndarray, float | None, Feedback]] = []


def _feedback(hessian: np.ndarray, noise: float | None) -> Feedback:
    order = np.argsort(-np.diag(hessian), kind="stable")
    h = hessian[np.ix_(order, order)]
    if noise is None:
        return Feedback(order, inverse_factor(h))
    found, mean = Feedback(order, inverse_factor(h, FLOOR)), max(float(np.diag(h).mean()), 1e-30)
    for _ in range(ROUNDS):
        level = noise * float(np.exp(np.log(found.left).mean())) / mean
        if level <= FLOOR:
            break
        found = Feedback(order, inverse_factor(h, level))
    return found


def round_columns(
    w: np.ndarray,
    carried: Feedback | None,
    quantise: Callable[[np.ndarray, int], np.ndarray],
    *,
    block: int = 128,
) -> np.ndarray:
    """Quantise W (out, in) column after column and carry each error on; without feedback every column is on its own.

    quantise(column (out,), j) → its quantised value (out,). Updates beyond a block of columns are done once a block.
    → the quantised matrix, float64.
    """
    q = np.empty(w.shape, np.float64)
    if carried is None:
        for j in range(w.shape[1]):
            q[:, j] = quantise(w[:, j], j)
        return q
    order, factor = carried
    left = np.array(w.T[order], np.float64)  # (in, out): columns of W lie together
    for start in range(0, len(order), block):
        stop = min(start + block, len(order))
        errors = np.empty((stop - start, w.shape[0]))
        for i in range(start, stop):
            q[:, order[i]] = quantised = quantise(left[i], int(order[i]))
            errors[i - start] = (left[i] - quantised) / factor[i, i]
            left[i + 1 : stop] -= np.outer(factor[i, i + 1 : stop], errors[i - start])
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return q
