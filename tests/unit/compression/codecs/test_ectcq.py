"""Entropy-coded trellis-coded quantisation: the best path, the known granular gain, a tensor's own rate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from components.compression.codecs import ectcq
from components.compression.codecs.encoding import decode_preset, encode
from components.compression.coding.hessian import weighted_error
from components.shared.models.remote_code.decode_ectcq import CODES, levels, state_machine


def gap(w: np.ndarray, code: bytes) -> tuple[float, float]:
    """Bits a weight, and decibels above the Gaussian rate–distortion bound, every byte counted."""
    rate = 8 * len(code) / w.size
    distortion = ((ectcq.decode(code) - w) ** 2).mean() / (w**2).mean()
    return rate, float(10 * np.log10(distortion) + 6.0206 * rate)


def test_the_path_is_the_best_of_all_paths() -> None:
    """Against all 9^5 strings of indices −4 … 4, stepped through the machine here."""
    rng = np.random.default_rng(0)
    bits, classes = rng.uniform(1, 6, (3, 2, 7)), rng.integers(0, 3, (12, 5))
    runs = rng.normal(size=(12, 5)) * 3
    index, quantiser = ectcq.search(runs, classes, bits, 0.4, 3)
    after = state_machine(3)
    best = np.full(len(runs), np.inf)
    for path in itertools.product(range(-4, 5), repeat=5):
        state, level, toll = 0, [], np.zeros(len(runs))
        for t, k in enumerate(path):
            which = state & 1
            level.append(2 * k - which * np.sign(k))
            toll += 0.4 * bits[classes[:, t], which, abs(k)]
            state = after[state, k & 1]
        best = np.minimum(best, ((runs - level) ** 2).sum(axis=1) + toll)
    found = ((runs - levels(index, quantiser)) ** 2 + 0.4 * bits[classes, quantiser, np.abs(index)]).sum(
        axis=1
    )
    assert np.allclose(found, best, rtol=1e-12)


@pytest.mark.parametrize(("memory", "granular"), [(2, 0.99), (3, 1.09), (5, 1.22), (8, 1.33)])
def test_the_granular_gain_is_the_known_one(memory: int, granular: float) -> None:
    """Over a uniform quantiser of the same rate, 4 … 256 states: Marcellin and Fischer 1990, Taubman and Marcellin 2002."""
    runs = np.random.default_rng(1).uniform(-200, 200, (8, 4096))
    index, quantiser = ectcq.search(runs, np.zeros(runs.shape), np.zeros((1, 2, 128)), 0.0, memory)
    noise = ((runs - levels(index, quantiser)) ** 2).mean()
    assert 10 * np.log10(4 / 12 / noise) == pytest.approx(granular, abs=0.03)


@pytest.mark.parametrize("memory", sorted(CODES)[1:])
def test_the_machine_is_reversible_and_its_ways_part(memory: int) -> None:
    after = state_machine(memory)
    assert np.array_equal(np.bincount(after.reshape(-1)), np.full(1 << memory, 2))
    assert (after[:, 0] != after[:, 1]).all()


@pytest.mark.parametrize(
    ("step", "low", "high"), [(0.27, 3.9, 4.1), (0.555, 2.9, 3.1), (1.18, 1.9, 2.1), (1.6, 1.5, 1.65)]
)
def test_normal_weights_are_half_a_decibel_from_the_bound_at_every_rate(
    step: float, low: float, high: float
) -> None:
    """The E8 lattice with an ideal entropy coder stays .88 dB away, a uniform quantiser 1.53 dB."""
    w = np.random.default_rng(2).normal(size=(512, 512)).astype(np.float32)
    rate, above = gap(w, ectcq.encode(w, step=step, memory=8))
    assert low < rate < high and 0.2 < above < 0.5


def test_without_a_trellis_uniform_steps_are_where_gish_and_pierce_put_them() -> None:
    """1.53 dB from the bound at high rates (1968), and less at low ones, where bits are weighed too."""
    w = np.random.default_rng(2).normal(size=(256, 512)).astype(np.float32)
    for step, nearest in ((0.125, 1.4), (0.5, 1.3), (1.5, 0.9)):
        assert nearest < gap(w, ectcq.encode(w, step=step, memory=0))[1] < 1.65


def test_heavy_tails_and_loud_columns_cost_less_than_normal_weights_of_that_variance() -> None:
    rng = np.random.default_rng(3)
    student = rng.standard_t(4, (256, 256)).astype(np.float32)
    loud = rng.normal(size=(256, 256)).astype(np.float32)
    loud[:, :3] *= 10
    assert gap(student, ectcq.encode(student, step=1.18, memory=5))[1] < 0.0
    assert gap(loud, ectcq.encode(loud, step=1.18, memory=5))[1] < -1.0


def test_weights_far_out_are_escaped_and_come_back() -> None:
    w = np.random.default_rng(4).normal(size=20_000).astype(np.float32)
    w[[3, 7000, 19_999]] = 50_000, -31_007, 400
    decoded = ectcq.decode(ectcq.encode(w, step=1e-3, memory=4))
    assert np.abs(decoded - w).max() < 2e-3 * np.sqrt((w**2).mean())


def test_error_feedback_lowers_the_error_of_the_output() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1024, 96)) @ rng.normal(size=(96, 96))
    hessian, w = x.T @ x / 1024, rng.normal(size=(64, 96)).astype(np.float32)
    errors = [weighted_error(w, ectcq.decode(ectcq.encode(w, h, step=1.0)), hessian) for h in (hessian, None)]
    assert errors[0] < 0.6 * errors[1]


def test_it_errs_less_in_the_output_than_vptq_and_than_gptq_on_equal_steps_at_no_more_bytes() -> None:
    """Inputs with an uneven, correlated spectrum; a tenth is far more than what a seed does."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(2048, 256)) @ (rng.normal(size=(256, 256)) * np.linspace(0.1, 1, 256) ** 2)
    hessian, w = x.T @ x / 2048, rng.normal(size=(512, 256)).astype(np.float32)

    def fit_tables(name: str) -> tuple[int, float]:
        code = encode(name, w, hessian, seed=0)
        return len(code), weighted_error(w, decode_preset(name, code, w.shape), hessian)

    size, err = fit_tables("hadamard ectcq 2")
    for other in ("vptq 2", "uniform 1"):
        theirs, wrong = fit_tables(other)
        assert size <= theirs and err < 0.9 * wrong


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"step": 0.0}, {"step": 1.0, "memory": 9}, {"step": 1.0, "price": -1.0}):
        with pytest.raises(ValueError, match="ECTCQ needs"):
            ectcq.encode(np.ones((4, 4), np.float32), **wrong)
