"""Error feedback: GPTQ's, without its inverse."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.coding.hessian import error_feedback, round_columns, weighted_error
from components.shared.runtime.errors import InputError


@pytest.fixture(scope="module")
def layer() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(999, 200)) @ rng.normal(size=(200, 200))
    return rng.normal(size=(32, 200)), x.T @ x / 999


def gptq(w: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Rounded to whole numbers: algorithm 1 of arXiv 2210.17323 with its order of activations, one column at a time."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    h = hessian[np.ix_(order, order)] + np.eye(len(hessian)) * 0.01 * np.trace(hessian) / len(hessian)
    inverse = np.linalg.cholesky(np.linalg.inv(h)).T
    diagonal, q = w[:, order].copy(), np.empty_like(w)
    for i in range(len(h)):
        q[:, order[i]] = np.rint(diagonal[:, i])
        err = (diagonal[:, i] - q[:, order[i]]) / inverse[i, i]
        diagonal[:, i:] -= np.outer(err, inverse[i, i:])
    return q


@pytest.mark.parametrize("block", [1, 7, 128, 500])
def test_it_rounds_as_gptq_does_in_blocks_of_any_size(
    layer: tuple[np.ndarray, np.ndarray], block: int
) -> None:
    w, hessian = layer
    found = round_columns(w, error_feedback(hessian), lambda column, _: np.rint(column), block=block)
    assert np.array_equal(found, gptq(w, hessian))


def test_the_factors_are_those_of_the_damped_hessian_and_tell_the_error(
    layer: tuple[np.ndarray, np.ndarray],
) -> None:
    w, hessian = layer
    found = error_feedback(hessian)
    assert found is not None
    order, upper, diagonal = found
    damped = hessian + np.eye(200) * 0.01 * np.trace(hessian) / 200
    assert np.allclose(np.tril(upper, -1), 0) and np.allclose(np.diag(upper), 1)
    assert np.allclose(upper @ np.diag(diagonal) @ upper.T, damped[np.ix_(order, order)])
    err = (w - round_columns(w, found, lambda column, _: np.rint(column)))[:, order]
    assert ((err @ upper) ** 2 @ diagonal).sum() == pytest.approx(
        weighted_error(err, 0 * err, damped[np.ix_(order, order)])
    )
    assert np.array_equal(found.weights[order], diagonal)


def test_without_a_hessian_every_column_is_on_its_own(layer: tuple[np.ndarray, np.ndarray]) -> None:
    w, _ = layer
    assert np.array_equal(
        round_columns(w, error_feedback(None), lambda column, _: np.rint(column)), np.rint(w)
    )


def test_the_damping_rises_to_the_water_level_where_the_quantiser_errs_much(
    layer: tuple[np.ndarray, np.ndarray],
) -> None:
    _, hessian = layer
    power = np.linalg.eigvalsh(hessian)
    found = error_feedback(hessian, 0.2)
    assert found is not None
    mean = np.exp(np.log(found.diagonal).mean())
    assert np.exp(np.log(power + 0.2 * mean).mean()) == pytest.approx(mean, rel=0.05)


def test_inputs_that_are_never_used_do_no_harm() -> None:
    found = error_feedback(np.diag([4.0, 0.0, 1.0]))
    assert found is not None and (found.weights > 0).all() and np.argmin(found.weights) == 1
    assert error_feedback(np.zeros((3, 3))) is not None


def test_what_is_no_hessian_is_refused() -> None:
    for wrong in (np.ones((2, 3)), np.full((2, 2), np.nan), np.ones(4)):
        with pytest.raises(InputError, match="a Hessian of shape"):
            error_feedback(wrong)
