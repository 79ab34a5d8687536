"""Steps of columns and rows: by waterfilling, and only where they pay for themselves."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs import ectcq
from components.compression.coding.hessian import weighted_error
from components.compression.coding.waterfilling import column_steps, line_sizes


def bound(hessian: np.ndarray, rate: float) -> float:
    """The least squared error of an output of normal weights of variance 1 at a rate: reverse waterfilling over the
    eigenvalues of the Hessian (Cover and Thomas, theorem 10.3.3), the water level by bisection."""
    power = np.linalg.eigvalsh(hessian)
    low, high = 1e-9 * power.max(), power.max()
    for _ in range(100):
        level = np.sqrt(low * high)
        needs = np.maximum(np.log2(np.maximum(power, level) / level) / 2, 0).mean()
        low, high = (level, high) if needs > rate else (low, level)
    return float(np.minimum(power, level).sum())


def inputs(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "a few loud inputs":
        return np.diag(np.where(np.arange(128) < 4, 400.0, 1.0))
    if kind == "one input like the next":
        return 0.95 ** np.abs(np.subtract.outer(np.arange(128), np.arange(128)))
    x = rng.normal(size=(4096, 128)) @ (rng.normal(size=(128, 128)) * np.linspace(0.1, 1, 128) ** 2)
    return x.T @ x / len(x)


@pytest.mark.parametrize(
    ("kind", "most"),
    [("a few loud inputs", 0.8), ("one input like the next", 1.1), ("an uneven spectrum", 2.4)],
)
@pytest.mark.parametrize("step", [0.555, 1.18])
def test_the_output_errs_little_more_than_any_code_must(kind: str, most: float, step: float) -> None:
    """Equal steps with GPTQ's feedback, the same code else, are 10, 2 and 6 dB above the bound."""
    w = np.random.default_rng(1).normal(size=(512, 128)).astype(np.float32)
    hessian = inputs(kind)
    code = ectcq.encode(w, hessian, step=step, memory=8)
    err = weighted_error(w, ectcq.decode(code), hessian) / len(w)
    assert 0 < 10 * np.log10(err / bound(hessian, 8 * len(code) / w.size)) < most


def test_steps_fall_with_the_square_root_of_the_weight() -> None:
    weights = np.repeat([1.0, 4.0, 256.0], 100)
    steps = column_steps(weights, 1000, 4)
    assert np.array_equal(np.unique(steps[:100] - steps[100:200]), [4])
    assert np.array_equal(np.unique(steps[100:200] - steps[200:]), [12])


def test_what_saves_less_than_it_costs_is_not_written() -> None:
    weights = np.exp(np.random.default_rng(3).normal(size=64) / 2)
    assert column_steps(weights, 1 << 14, 4).any() and not column_steps(weights, 8, 4).any()
    assert line_sizes(weights, 1 << 14, 2).any() and not line_sizes(weights, 8, 2).any()
    assert not column_steps(np.ones(64), 1 << 20, 4).any()
