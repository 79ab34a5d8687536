"""Ternary weights times int8 activations: exact in integers, whatever the shape, the processor and the threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.models.remote_code.ternary import quantise_activations
from components.shared.models.ternary import kernels as kernels

EVERY = pytest.mark.parametrize("kernel", kernels.KERNELS.values(), ids=kernels.KERNELS)
HASWELL = "+avx2,+avx,+sse4.2,+sse4.1,+ssse3,+sse2,+fma,+bmi,+bmi2,+popcnt,+lzcnt"


def random(rows: int, columns: int, tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Trits (rows, columns) int8 and activations (tokens, columns) float32 with a few large values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(2, (tokens, columns)).astype(np.float32)
    return rng.integers(-1, 2, (rows, columns), dtype=np.int8), x


def quantised(weight: kernels.Packed, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q = np.zeros((len(x), 4 * weight.digits.shape[1]), np.int8)
    scales, sums = np.empty(len(x), np.float32), np.empty(len(x), np.int32)
    kernels.quantise(x, q, scales, sums)
    return q, scales, sums


@EVERY
@settings(max_examples=60, deadline=None)
@given(
    *(st.integers(1, 75), st.integers(1, 2600), st.integers(1, 10)),
    *(st.integers(0, 9), st.sampled_from([(-128, 127), (-127, 127), (-128, -128), (127, 127), (-1, 0)])),
)
def test_every_kernel_gives_the_integers_of_a_plain_product(
    kernel: kernels.Kernel, rows: int, columns: int, tokens: int, seed: int, values: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    trits = rng.integers(-1, 2, (rows, columns), dtype=np.int8)
    trits[::3] = 1
    weight = kernels.pack(trits, 0.5)
    q = np.zeros((tokens, 4 * weight.digits.shape[1]), np.int8)
    q[:, :columns] = rng.integers(*values, (tokens, columns), endpoint=True)
    first, out = rows // 3, np.full((tokens, rows), -7, np.int32)
    kernel(weight.digits, q, out, first, rows)
    wide = q[:, :columns].astype(np.int64)
    assert np.array_equal(out[:, first:] - wide.sum(1)[:, None], wide @ trits[first:].T.astype(np.int64))
    assert (out[:, :first] == -7).all(), "rows that were not asked for"


@EVERY
@pytest.mark.parametrize("value", [-128, 127])
def test_the_largest_sums_there_can_be_are_exact(kernel: kernels.Kernel, value: int) -> None:
    weight = kernels.pack(np.ones((9, 16384)), 1.0)
    q = np.full((5, 16384), value, np.int8)
    out = np.empty((5, 9), np.int32)
    kernel(weight.digits, q, out, 0, 9)
    assert (out == value * 2 * 16384).all()


@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("alderlake", f"{HASWELL},+avxvnni", ["AVX-VNNI", "AVX2", "portable"]),
        ("haswell", HASWELL, ["AVX2", "portable"]),
        ("x86-64", "+sse2", ["portable"]),
    ],
)
def test_a_processor_that_has_less_computes_the_same_with_what_it_has(
    name: str, features: str, expected: list[str], tmp_path: Path
) -> None:
    """In a process that compiles for that processor: an instruction that it lacks would stop the compiler."""
    if len(kernels.KERNELS) < 2 or not kernels.KERNELS.keys() >= set(expected):
        pytest.skip("this processor has less itself")
    trits, x = random(70, 2500, 6)
    np.savez(tmp_path / "in.npz", trits=trits, x=x)
    script = (
        "import numpy as np; from components.shared.models.ternary import kernels;"
        f"given = np.load({str(tmp_path / 'in.npz')!r});"
        f"y = kernels.multiply(kernels.pack(given['trits'], .5), given['x']);"
        f"np.save({str(tmp_path / 'y.npy')!r}, y); print(*kernels.KERNELS, sep=',')"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    said = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert said.stdout.strip().split(",") == expected
    assert np.array_equal(np.load(tmp_path / "y.npy"), kernels.multiply(kernels.pack(trits, 0.5), x))


def test_activations_are_rounded_as_the_model_that_was_trained_rounds_them() -> None:
    trits, x = random(3, 777, 50)
    x[7] *= 1e-7  # below the smallest maximum
    x[8, ::2] = 0.5 * np.abs(x[8]).max() / 127  # halves are rounded to even
    q, scales, sums = quantised(kernels.pack(trits, 1.0), x)
    own = quantise_activations(torch.from_numpy(x)).numpy()
    assert np.array_equal(q[:, :777] / scales[:, None], own) and np.array_equal(q.sum(1), sums)
    assert not q[:, 777:].any()


@EVERY
@pytest.mark.parametrize("shape", [(128, 128, 1), (100, 1000, 7), (2048, 1024, 4)])
def test_the_product_is_that_of_the_reference_up_to_rounding(
    kernel: kernels.Kernel, shape: tuple[int, int, int]
) -> None:
    trits, x = random(*shape)
    own = F.linear(
        quantise_activations(torch.from_numpy(x)).double(), torch.from_numpy(trits).double() * 0.03
    )
    y = kernels.multiply(kernels.pack(trits, 0.03), x, using=kernel)
    assert np.abs(y - own.numpy()).max() < 1e-6 * own.abs().max()


def test_threads_do_not_change_a_bit() -> None:
    trits, x = random(1031, 2048, 9)
    weight = kernels.pack(trits, 0.7)
    one, three = (kernels.multiply(weight, x, threads=threads) for threads in (1, 3))
    assert 9 * weight.digits.size * 4 >= kernels.PARALLEL and np.array_equal(one, three)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_spoils_its_own_token_and_no_other(bad: float) -> None:
    trits, x = random(8, 300, 3)
    good = kernels.multiply(kernels.pack(trits, 1.0), x)
    x[1, 5] = bad
    y = kernels.multiply(kernels.pack(trits, 1.0), x)
    assert np.isnan(y[1]).all() and np.array_equal(y[[0, 2]], good[[0, 2]])


def test_two_bits_a_weight_and_what_is_no_trit_or_does_not_fit_is_refused() -> None:
    trits, x = random(16, 512, 2)
    assert kernels.pack(trits, 1.0).nbytes == 16 * 512 // 4
    with pytest.raises(ValueError, match="not -1 to 2"):
        kernels.pack(np.array([[2, -1]]), 1.0)
    with pytest.raises(ValueError, match="512 activations for rows of 256"):
        kernels.multiply(kernels.pack(trits[:, :256], 1.0), x)
