"""The plain codec: exact where it says so, the expected error elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs import scalar
from components.compression.coding.hessian import weighted_error


def test_a_ternary_tensor_is_kept_exactly_below_base_3() -> None:
    rng = np.random.default_rng(0)
    w = (rng.choice([-1, 0, 1], (128, 384), p=[0.3, 0.4, 0.3]) * np.float32(0.037)).astype(np.float32)
    code = scalar.exact(w)
    assert code is not None and np.array_equal(scalar.decode(code), w)
    assert len(code) * 8 / w.size < 1.585


def test_a_tensor_that_is_not_ternary_has_no_exact_code() -> None:
    assert scalar.exact(np.array([1.0, -1.0, 0.5], np.float32)) is None


def test_negative_zero_decodes_to_zero() -> None:
    code = scalar.exact(np.array([-0.0, 2.0, -2.0], np.float32))
    assert code is not None and np.array_equal(scalar.decode(code), [0.0, 2.0, -2.0])


def test_eight_bits_err_by_no_more_than_half_a_step() -> None:
    w = np.random.default_rng(1).normal(size=(16, 200)).astype(np.float32)
    decoded = scalar.decode(scalar.encode(w, levels=255, group=64))
    for start in range(0, 200, 64):
        part = slice(start, start + 64)
        step = np.abs(w[:, part]).max(axis=1, keepdims=True) / 127
        assert (np.abs(decoded[:, part] - w[:, part]) <= step * 0.52).all()


def test_error_feedback_lowers_the_error_of_the_output() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1024, 96)) @ rng.normal(size=(96, 96))
    hessian, w = x.T @ x / 1024, rng.normal(size=(64, 96)).astype(np.float32)
    errors = [
        weighted_error(w, scalar.decode(scalar.encode(w, h, levels=7)), hessian) for h in (hessian, None)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_weights_too_small_for_float16_keep_their_precision() -> None:
    w = np.random.default_rng(4).normal(size=(8, 64)).astype(np.float32)
    for scale in (1e-12, 1e12):
        decoded = scalar.decode(scalar.encode(w * np.float32(scale), levels=255))
        assert np.allclose(decoded / scale, w, atol=0.02)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"levels": 4}, {"levels": 1}, {"group": 0}):
        with pytest.raises(ValueError, match="odd"):
            scalar.encode(np.ones((2, 2), np.float32), **wrong)
