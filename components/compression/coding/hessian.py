"""The Hessian of a layer's output error, and the column-by-column rounding that uses it.

For y = x Wᵀ the squared error of the output is tr(Δ H Δᵀ) with H = E[xᵀx] (in, in). With H = U D Uᵀ, U upper triangular
with ones on its diagonal, that is Σ_j D_j‖Δ u_j‖², u_j being column j of U, whose entries below j are zero: so column j is
rounded as if it were w_j plus what the errors before it make of it, Σ_{i<j} (w_i − q_i) U_ij. It is the rounding of GPTQ
(arXiv 2210.17323), as QuIP (arXiv 2307.13304, LDLQ) writes it: without an inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from components.shared.runtime.errors import InputError


def weighted_error(
    w: np.ndarray, decoded: np.ndarray, hessian: np.ndarray | None, importance: np.ndarray | None = None
) -> float:
    """tr(R Δ H Δᵀ) with Δ = w − decoded, both (out, in); H (in, in), (in,) its diagonal, or None for the identity.

    :param importance: (out,) the diagonal of R, what an error in each output weighs; None: all weigh 1.
    """
    delta = (np.asarray(w, np.float64) - decoded).reshape(len(w), -1) if np.ndim(w) else np.zeros((1, 1))
    if importance is not None:
        delta *= np.sqrt(importance)[:, None]
    if hessian is None:
        return float((delta**2).sum())
    if hessian.ndim == 1:
        return float((delta**2 @ hessian).sum())
    return float(((delta @ hessian.astype(np.float64)) * delta).sum())


ROUNDS = 3  # to find the water level
FLOOR = 0.01  # damping, of the mean input, as in GPTQ: Hessians are only estimates


class Feedback(NamedTuple):
    """How errors of columns are carried on, in an order of the columns.

    order     (in,) which column comes when
    upper     (in, in) U of H = U D Uᵀ in that order
    diagonal  (in,) D
    """

    order: np.ndarray
    upper: np.ndarray
    diagonal: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(in,) by column: what the square of its error weighs, once the columns after it have made up for it."""
        by_column = np.empty(len(self.order))
        by_column[self.order] = self.diagonal
        return by_column


def factorise(h: np.ndarray, order: np.ndarray, damping: float) -> Feedback:
    """H (in, in) in that order = U D Uᵀ − damping·mean(diag H)·I. Inputs that are never used are kept by the damping."""
    mean = float(np.trace(h)) / max(len(h), 1)
    damped = np.array(h, np.float64)
    damped[np.diag_indices(len(h))] += damping * mean if mean > 0 else 1.0
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    diagonal = np.diag(upper).copy()
    return Feedback(order, upper / diagonal, diagonal**2)


def error_feedback(hessian: np.ndarray | None, noise: float = 0.0) -> Feedback | None:
    """The most important inputs, those of the largest second moment, are rounded first. No Hessian: no feedback.

    :param noise: what the quantiser will err, squared, against the weights' mean square. Inputs of less power than the
        error itself are not worth moving weights for: the damping is waterfilling's level,
        t = noise · det(H + tI)^(1/in), where that is more than FLOOR.
    :raises InputError: no finite square matrix.

    The latest one is remembered for a Hessian that nobody may write to, as those mapped from files are: the slabs of a
    tensor ask for the same, one after another.
    """
    if hessian is None:
        return None
    if hessian.flags.writeable:
        return _feedback(hessian, noise)
    if not (_latest_feedback and _latest_feedback[0][0] is hessian and _latest_feedback[0][1] == noise):
        _latest_feedback[:] = [(hessian, noise, _feedback(hessian, noise))]
    return _latest_feedback[0][2]


_latest_feedback: list[tuple[np.ndarray, float, Feedback]] = []


def _feedback(hessian: np.ndarray, noise: float) -> Feedback:
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1] or not np.isfinite(hessian).all():
        why, fix = "a finite square matrix is needed", "calibrate again"
        raise InputError(f"a Hessian of shape {hessian.shape}", why=why, fix=fix)
    order = np.argsort(-np.diag(hessian), kind="stable")
    h = hessian[np.ix_(order, order)]
    factor, mean = factorise(h, order, FLOOR), max(float(np.diag(h).mean()), 1e-30)
    for _ in range(ROUNDS):
        level = noise * float(np.exp(np.log(factor.diagonal).mean())) / mean
        if level <= FLOOR:
            break
        factor = factorise(h, order, level)
    return factor


def round_columns(
    w: np.ndarray,
    feedback: Feedback | None,
    quantise: Callable[[np.ndarray, int], np.ndarray],
    *,
    block: int = 128,
) -> np.ndarray:
    """Quantise W (out, in) column after column and carry each error on; without feedback every column is on its own.

    quantise(column (out,), j) → its quantised value (out,). What errors make of columns beyond a block is added once a
    block. → the quantised matrix, float64.
    """
    q = np.empty(w.shape, np.float64)
    if feedback is None:
        for j in range(w.shape[1]):
            q[:, j] = quantise(w[:, j], j)
        return q
    order, upper, _ = feedback
    errors = np.empty((len(order), w.shape[0]))  # columns of W lie together
    for start in range(0, len(order), block):
        stop = min(start + block, len(order))
        target = w.T[order[start:stop]] + upper[:start, start:stop].T @ errors[:start]
        for i in range(start, stop):
            j = int(order[i])
            q[:, j] = quantise(target[i - start] + upper[start:i, i] @ errors[start:i], j)
            errors[i] = w[:, j] - q[:, j]
    return q
