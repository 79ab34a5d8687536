"""Presets at work on single tensors: what is tried, what it costs, what a sample says of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs.codec import Chain, CodeFormat
from components.compression.codecs.encoding import (
    RateDistortion,
    decode_preset,
    encode,
    format_of,
    scaled,
    worth_trying,
)
from components.compression.codecs.registry import codec, families, presets
from components.compression.codecs.scalar import EXACT
from components.compression.coding.hessian import weighted_error


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ternary(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).integers(-1, 2, shape) * np.float32(0.1)).astype(np.float32)


def measured(name: str, w: np.ndarray, hessian: np.ndarray | None) -> RateDistortion:
    code = encode(name, w, hessian, seed=0)
    return RateDistortion(name, len(code), weighted_error(w, decode_preset(name, code, w.shape), hessian))


@pytest.mark.parametrize("name", presets())
def test_every_preset_costs_about_the_bits_that_it_promises(name: str) -> None:
    preset = presets()[name]
    small = preset.codec == "seedlm" or preset.settings.get("memory") == 16
    w = normal(256, 64) if small else normal(256, 256)
    code = encode(name, w, None, seed=0)
    books = codec(preset.codec).codebook_bytes(preset.settings)
    assert (len(code) - books) * 8 / w.size == pytest.approx(preset.bits, rel=0.08, abs=0.12)
    assert weighted_error(w, decode_preset(name, code, w.shape), None) < w.size


def test_more_bits_err_less_within_a_family() -> None:
    w = normal(128, 128)
    for family in ("uniform", "seedlm", "vptq", "hyper"):
        names = [preset.name for preset in families()[family] if "sized" not in preset.name]
        errors = [measured(n, w, None).error for n in names]
        assert errors == sorted(errors, reverse=True)


def test_a_ternary_tensor_is_offered_its_exact_code_and_what_is_cheaper() -> None:
    names = ["int4", "vptq 2", "vptq 1", "uniform 2"]
    assert worth_trying(names, ternary(64, 64)) == [EXACT.name, "vptq 1", "uniform 2"]
    assert worth_trying(names, normal(64, 64)) == names
    w = ternary(64, 64)
    assert np.array_equal(decode_preset(EXACT.name, encode(EXACT.name, w, None, seed=0), w.shape), w)
    with pytest.raises(ValueError, match="no exact code"):
        encode(EXACT.name, normal(4, 4), None, seed=0)


@pytest.mark.parametrize("name", ["int4", "uniform 1", "vptq 2", "hyper 64"])
def test_a_sample_of_rows_tells_bytes_and_error_of_the_whole(name: str) -> None:
    w, x = normal(1024, 96), normal(500, 96, seed=1)
    hessian = x.T @ x / 500
    whole, part = measured(name, w, hessian), measured(name, w[::4], hessian)
    estimate = scaled(part, 4.0)
    assert estimate.bytes == pytest.approx(whole.bytes, rel=0.05)
    assert estimate.error == pytest.approx(whole.error, rel=0.25)


def test_every_slab_has_a_codebook_of_its_own() -> None:
    one, three = (scaled(RateDistortion("vptq 2", 3000, 1.0), 6.0, slabs) for slabs in (1, 3))
    assert three.bytes - one.bytes == 2 * 2 * 4 * 256 and one.error == three.error == 6.0


def test_a_chain_is_read_by_the_decoder_of_its_last_preset() -> None:
    chain = Chain(("seedlm 4", "trellis 2"))
    assert format_of(chain, slabs=3) == CodeFormat("trellis", "hadamard", slabs=True)
    assert format_of(chain).spec() == {"codec": "trellis", "transform": "hadamard"}
    assert format_of(EXACT.name).spec() == {"codec": "scalar"} and format_of("seedlm 3").spec() == {
        "codec": "seedlm"
    }
