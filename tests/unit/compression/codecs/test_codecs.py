"""What holds for every codec: any shape comes back as a tensor of that shape, the same twice; damage and NaN do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.compression.codecs import ectcq, hadamard, hyper, scalar, seedlm, trellis, vptq
from components.shared.models.remote_code.decoders import decode
from components.shared.models.remote_code.lossless import CodeError
from components.shared.runtime.errors import InputError

ENCODERS: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], bytes]]] = {
    "int8": ({"codec": "scalar"}, lambda w: scalar.encode(w, levels=255)),
    "int4": ({"codec": "scalar"}, lambda w: scalar.encode(w, levels=15, group=5)),
    "uniform": ({"codec": "ectcq"}, lambda w: ectcq.encode(w, step=0.25, memory=0)),
    "seedlm": ({"codec": "seedlm"}, lambda w: seedlm.encode(w, bits=8)),
    "seedlm, 12 and 4": ({"codec": "seedlm"}, lambda w: seedlm.encode(w, block=12, latent=4, bits=7)),
    "vptq": ({"codec": "vptq"}, lambda w: vptq.encode(w, length=3, centroids=16)),
    "vptq, residual": ({"codec": "vptq"}, lambda w: vptq.encode(w, centroids=16, residual=8, norms=True)),
    "vptq, sized": ({"codec": "vptq"}, lambda w: vptq.encode(w, bits=3.0)),
    "vptq, outliers": ({"codec": "vptq"}, lambda w: vptq.encode(w, centroids=8, outliers=0.2, outlier_centroids=4)),
    "trellis": ({"codec": "trellis"}, lambda w: trellis.encode(w, bits=2, memory=6)),
    "trellis, 3 and 7, scales": ({"codec": "trellis"}, lambda w: trellis.encode(w, bits=3, memory=7, group=11)),
    "ectcq": ({"codec": "ectcq"}, lambda w: ectcq.encode(w, step=1.0)),
    "ectcq, fine": ({"codec": "ectcq"}, lambda w: ectcq.encode(w, step=0.05, memory=4)),
    "hadamard, trellis": (
        {"codec": "trellis", "transform": "hadamard"},
        lambda w: hadamard.encode(w, None, lambda turned, _: trellis.encode(turned, bits=2, memory=6), seed=3),
    ),
    "hadamard, vptq": (
        {"codec": "vptq", "transform": "hadamard"},
        lambda w: hadamard.encode(w, None, lambda turned, _: vptq.encode(turned, centroids=16)),
    ),
    "hyper": ({"codec": "hyper"}, lambda w: hyper.encode(w)),
    "hyper, small": ({"codec": "hyper"}, lambda w: hyper.encode(w, points=30, classes=3)),
}  # fmt: skip
each_codec = pytest.mark.parametrize("name", ENCODERS)


@each_codec
@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 13), max_size=3),
    scale=st.sampled_from([0.0, 1e-20, 1e-3, 1.0, 1e15]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_comes_back_near_what_it_was(name: str, shape: list[int], scale: float, seed: int) -> None:
    spec, encode = ENCODERS[name]
    w = (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)
    code = encode(w)
    decoded = decode(spec | {"shape": list(w.shape)}, np.frombuffer(code, np.uint8))
    assert decoded.shape == w.shape and decoded.dtype == np.float32 and np.isfinite(decoded).all()
    assert ((decoded - w).astype(np.float64) ** 2).sum() <= (w.astype(np.float64) ** 2).sum() * 1.0001
    assert encode(w) == code


@each_codec
def test_a_code_that_was_cut_or_altered_is_refused(name: str) -> None:
    spec, encode = ENCODERS[name]
    code = encode(np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32))
    for place in (0, 2, 5, 9, len(code) // 2, len(code) - 1):
        altered = bytearray(code)
        altered[place] ^= 1
        with pytest.raises(CodeError):
            decode(spec | {"shape": [24, 32]}, bytes(altered))
    for length in (0, 7, len(code) // 2, len(code) - 1):
        with pytest.raises(CodeError):
            decode(spec | {"shape": [24, 32]}, code[:length])


@each_codec
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(name: str, value: float) -> None:
    w = np.ones((4, 4), np.float32)
    w[1, 2] = value
    with pytest.raises(InputError, match="1 of 16 weights are NaN or infinite"):
        ENCODERS[name][1](w)


@each_codec
def test_integers_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="dtype int64"):
        ENCODERS[name][1](np.ones((4, 4), np.int64))
