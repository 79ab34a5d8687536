"""Trellis-coded quantisation: the path found is the best there is, and its error is nearer to the bound than QTIP's."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from components.compression.codecs import trellis
from components.compression.coding.hessian import weighted_error
from components.shared.models.remote_code.decode_trellis import DEVIATION, quantiles, states, values
from components.shared.models.remote_code.lossless import octaves


def gap(w: np.ndarray, code: bytes) -> float:
    """Decibels above the Gaussian rate–distortion bound, every byte counted."""
    distortion = ((trellis.decode(code) - w) ** 2).mean() / (w**2).mean()
    return float(10 * np.log10(distortion) + 6.0206 * 8 * len(code) / w.size)


def test_the_path_is_the_best_of_all_circular_paths_through_its_seam() -> None:
    """Against all 2^14 strings of 7 symbols, k = 2, L = 6."""
    bits, memory, length = 2, 6, 7
    everything = np.array(list(itertools.product(range(4), repeat=length)))
    reached = values(bits, memory)[states(everything, bits, memory)] / DEVIATION
    seams = states(everything, bits, memory)[:, -1] & 15
    runs = np.random.default_rng(0).normal(size=(20, length))
    found = trellis.search(runs, bits, memory)
    for run, symbols in zip(runs, found, strict=True):
        squares = ((reached - run) ** 2).sum(axis=1)
        path = states(symbols[None], bits, memory)[0]
        error = ((values(bits, memory)[path] / DEVIATION - run) ** 2).sum()
        assert error == pytest.approx(squares[seams == path[-1] & 15].min(), rel=1e-5)


def test_the_seam_that_is_found_is_nearly_the_best_of_all_seams() -> None:
    bits, memory = 2, 8
    value = (values(bits, memory) / DEVIATION).astype(np.float32)
    runs = np.random.default_rng(4).normal(size=(10, 64)).astype(np.float32)
    path = np.empty(64, np.int64)
    found = best = 0.0
    for run, symbols in zip(runs, trellis.search(runs, bits, memory), strict=True):
        errors = []
        for seam in range(1 << memory - bits):
            trellis.viterbi(bits)(run, value, seam, path)
            assert path[-1] & 63 == seam == path[0] >> bits
            errors.append(float(((value[path] - run) ** 2).sum()))
        found += ((value[states(symbols[None], bits, memory)[0]] - run) ** 2).sum()
        best += min(errors)
    assert best <= found < 1.05 * best  # QTIP, algorithm 4, is a heuristic too


def test_neighbouring_states_share_all_but_k_bits_also_over_the_end_of_a_run() -> None:
    for bits, memory in ((1, 5), (2, 16), (3, 16), (4, 12)):
        symbols = np.random.default_rng(bits).integers(0, 1 << bits, (3, 40))
        y = states(symbols, bits, memory)
        kept = (1 << memory - bits) - 1
        assert np.array_equal(y >> bits, np.roll(y, 1, axis=1) & kept)


@pytest.mark.parametrize(("bits", "memory"), [(1, 12), (2, 12), (2, 16), (3, 12), (4, 12)])
def test_ways_into_a_state_and_out_of_it_each_meet_every_part_of_the_distribution(
    bits: int, memory: int
) -> None:
    ways, free = 1 << bits, 1 << memory - bits
    value = values(bits, memory)
    assert np.array_equal(np.sort(value), quantiles(memory))
    borders = quantiles(memory).reshape(ways, free)
    for table in (value.reshape(free, ways), value.reshape(ways, free).T):  # by way out; by way in
        table = np.sort(table, axis=1)
        assert (table >= borders[:, 0]).all() and (table <= borders[:, -1]).all()


def test_the_values_are_normal_and_the_same_everywhere() -> None:
    upper = quantiles(16)[1 << 15 :] / DEVIATION
    assert np.array_equal(quantiles(16), -quantiles(16)[::-1])
    for share, expected in ((0.75, 0.67449), (0.95, 1.64485), (0.999, 3.09023)):
        assert upper[int((2 * share - 1) * (1 << 15))] == pytest.approx(expected, abs=0.006)
    assert zlib.crc32(values(2, 16).astype("<i4").tobytes()) == 0x251C97BA


@pytest.mark.parametrize(
    ("bits", "memory", "shape", "bound"),
    [
        (1, 12, (256, 256), 0.45),
        (2, 12, (256, 256), 0.62),
        (3, 12, (256, 256), 0.92),
        (2, 16, (128, 256), 0.45),
    ],
)
def test_normal_weights_are_that_near_to_the_rate_distortion_bound(
    bits: int, memory: int, shape: tuple[int, int], bound: float
) -> None:
    """QTIP's own codes at L = 12 and 2 bits: .71 dB; at L = 16: .42 to .50 dB; codebooks of 8 dimensions: 1.6 dB."""
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert 0.2 < gap(w, trellis.encode(w, bits=bits, memory=memory)) < bound


def test_group_scales_serve_loud_and_quiet_runs_alike() -> None:
    rng = np.random.default_rng(1)
    w = (rng.normal(size=(64, 512)) * np.exp(1.5 * rng.normal(size=(64, 1)))).astype(np.float32)
    for group, low, high in ((0, 9.0, 30.0), (256, 0.3, 0.95)):
        code = trellis.encode(w, bits=2, memory=12, group=group)
        noise = ((trellis.decode(code) - w) ** 2).mean(axis=1) / (w**2).mean(axis=1)
        worst = 10 * np.log10(noise.mean()) + 6.0206 * 8 * len(code) / w.size
        assert low < worst < high


def test_scales_are_powers_of_an_eighth_of_an_octave() -> None:
    index = np.arange(-80, 80)
    assert np.allclose(octaves(index, 8), 2.0 ** (index / 8), rtol=1e-14, atol=0)


def test_error_feedback_lowers_the_error_of_the_output() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1024, 96)) @ rng.normal(size=(96, 96))
    hessian, w = x.T @ x / 1024, rng.normal(size=(64, 96)).astype(np.float32)
    errors = [
        weighted_error(w, trellis.decode(trellis.encode(w, h, bits=2, memory=10)), hessian)
        for h in (hessian, None)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"bits": 0}, {"bits": 9}, {"memory": 3}, {"memory": 19}, {"group": -1}):
        with pytest.raises(ValueError, match="a trellis needs"):
            trellis.encode(np.ones((4, 4), np.float32), **wrong)
