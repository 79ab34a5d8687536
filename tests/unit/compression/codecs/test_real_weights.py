"""Weights as real models have them: heavy tails, loud rows, inputs a hundred times as loud as others and correlated."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs import ectcq, registry, trellis
from components.compression.codecs.encoding import decode, decode_preset, encode, format_of
from components.compression.coding.hessian import weighted_error
from components.shared.models.remote_code import decode_ectcq
from components.shared.models.remote_code.lossless import CodeError

FIXED_RATE = ["trellis 1", "trellis 2", "trellis 3"]


def layer(rows: int = 192, columns: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A weight and the Hessian of its inputs."""
    rng = np.random.default_rng(0)
    w = rng.standard_t(4, (rows, columns)) * np.exp(0.4 * rng.normal(size=(rows, 1)))
    w[:, ::40] *= 4
    x = rng.normal(size=(2048, columns)) * np.exp(rng.normal(size=columns))
    x += 3 * rng.normal(size=(2048, 1)) * rng.normal(size=columns)
    x[:, [3, 50]] *= 30
    return w.astype(np.float32), (x.T @ x / 2048).astype(np.float32)


@pytest.mark.parametrize("name", FIXED_RATE)
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_code_of_a_fixed_rate_keeps_near_its_figure_on_real_weights(name: str, calibrated: bool) -> None:
    """Nearly as near to an entropy-coded one, of which nobody expects that weights are normal, as on normal weights."""
    w, hessian = layer()
    code = encode(name, w, hessian if calibrated else None, seed=0)
    error = weighted_error(w, decode_preset(name, code, w.shape), hessian)
    step = {1: 2.45, 2: 1.18, 3: 0.555}[registry.preset(name).bits]
    other = ectcq.encode(w, hessian if calibrated else None, step=step, memory=3)
    their_error = weighted_error(w, ectcq.decode(other), hessian)
    rate = 6.02 * 8 * (len(code) - len(other)) / w.size
    assert 10 * np.log10(error / their_error) + rate < 7.0


def test_without_its_transform_the_same_code_cuts_weights_off() -> None:
    """What made perplexities of hundreds of thousands: the error of the output is fifteen times as large and more."""
    w, hessian = layer()
    plain = trellis.decode(trellis.encode(w, hessian, bits=2, memory=12))
    turned = decode_preset("trellis 2", encode("trellis 2", w, hessian, seed=0), w.shape)
    assert weighted_error(w, plain, hessian) > 15 * weighted_error(w, turned, hessian)


def test_every_preset_of_a_fixed_rate_is_turned_and_keeps_its_family() -> None:
    for family in ("trellis", "vptq"):
        presets = registry.families()[family]
        assert presets and all(format_of(each.name).transform == "hadamard" for each in presets)


def test_rows_that_weigh_more_err_less_at_the_same_rate() -> None:
    rng = np.random.default_rng(1)
    w = rng.normal(size=(256, 128)).astype(np.float32)
    importance = np.exp(rng.normal(size=256) * 2)
    importance /= np.exp(np.log(importance).mean())
    plain = encode("ectcq 2", w, None, seed=0)
    weighed = encode("ectcq 2", w, None, seed=0, importance=importance)
    assert len(weighed) < 1.12 * len(plain)
    errors = [
        weighted_error(w, decode(format_of("ectcq 2"), code, w.shape), None, importance)
        for code in (plain, weighed)
    ]
    assert errors[1] < 0.4 * errors[0]


def test_rows_of_equal_weight_make_the_code_that_there_was_before() -> None:
    w, hessian = layer(64, 96)
    assert encode("ectcq 2", w, hessian, seed=0) == encode(
        "ectcq 2", w, hessian, seed=0, importance=np.ones(64)
    )


def test_steps_of_rows_are_another_version_and_a_damaged_one_is_refused() -> None:
    w = np.random.default_rng(2).normal(size=(128, 64)).astype(np.float32)
    code = ectcq.encode(w, step=1.0, importance=np.geomspace(1e-3, 1e3, 128))
    assert code[3] == decode_ectcq.ROW_STEPS and ectcq.decode(code).shape == w.shape
    for wrong in (code[:-1], code[:3] + bytes([decode_ectcq.VERSION]) + code[4:]):
        with pytest.raises(CodeError):
            ectcq.decode(wrong)


def test_the_transform_does_not_see_what_rows_weigh() -> None:
    w, hessian = layer(64, 96)
    for name in ("hadamard ectcq 2", "trellis 2"):
        assert encode(name, w, hessian, seed=0) == encode(
            name, w, hessian, seed=0, importance=np.arange(1.0, 65)
        )
