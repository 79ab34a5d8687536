"""SeedLM: the fast search is the exhaustive one, and its errors are those of the method."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs import seedlm
from components.shared.models.remote_code.decode_seedlm import TAPS, combine, cycle


def exhaustive(w: np.ndarray, latent: int, bits: int, beside: int = 1) -> np.ndarray:
    """The least error of rounding every seed's least-squares coefficients (SeedLM, section 3), blocks (n, C) → (n,).

    The register is stepped here, from its definition.
    """
    block, period, half = w.shape[1], (1 << bits) - 1, 1 << (bits - 1)
    states = [1]
    for _ in range(period + block * latent):
        fed = sum(states[-1] >> tap for tap in TAPS[bits]) & 1
        states.append(states[-1] >> 1 | fed << (bits - 1))
    u = (np.array(states) - half) / (half - 1)
    u = u[np.arange(period)[:, None] + 1 + np.arange(block * latent)].reshape(period, block, latent)
    inverse = np.linalg.pinv(u, rcond=1e-9)
    least = np.empty(len(w))
    for i, row in enumerate(w):
        t = inverse @ row  # (seeds, P)
        middle = np.ceil(np.log2(np.maximum(np.abs(t).max(axis=1), 1e-300) / 7.5))
        errors = [row @ row]
        for step in range(-beside, beside + 1):
            unit = 2.0 ** np.clip(middle + step, -8, 7)[:, None]
            q = np.clip(np.rint(t / unit), -8, 7) * unit
            errors.append(((row - (u @ q[:, :, None])[:, :, 0]) ** 2).sum(axis=1).min())
        least[i] = min(errors)
    return least


@pytest.mark.parametrize(
    ("block", "latent", "bits", "n"),
    [
        (8, 3, 10, 500),  # some of its 1,023 bases are singular or nearly so
        (12, 4, 9, 100),
        (8, 3, 4, 100),  # a cycle of 15, shorter than U
        (8, 3, 2, 20),  # a cycle of 3: every basis has rank 1
        (8, 3, 16, 6),  # the paper's
        (12, 4, 16, 4),
    ],
)
def test_the_fast_search_finds_what_an_exhaustive_one_finds(
    block: int, latent: int, bits: int, n: int
) -> None:
    rng = np.random.default_rng(bits)
    w = rng.normal(size=(n, block)) * np.exp2(rng.integers(-12, 9, (n, 1)))
    w[0] = 0
    w[1] = 1
    for beside in (0, 1) if bits < 16 else (1,):
        _, _, _, error = seedlm.search(w, latent, bits, beside=beside)
        assert np.allclose(error, exhaustive(w, latent, bits, beside), rtol=1e-9, atol=0)


def test_singular_bases_are_among_those_searched() -> None:
    for bits, ranks in ((10, {2, 3}), (2, {1})):
        *_, odd, spanning = seedlm.bases(8, 3, bits)
        assert set((spanning**2).sum(axis=(1, 2)).round(5)) == ranks and len(odd) > 2


def test_the_error_that_the_search_reports_is_that_of_the_decoded_block() -> None:
    w = np.random.default_rng(3).normal(size=(64, 8))
    seeds, q, e, error = seedlm.search(w, 3, 12)
    decoded = combine(seeds, q, e, 1.0, 8, 12)
    assert np.allclose(((w - decoded) ** 2).sum(axis=1), error, rtol=1e-5)
    assert q.min() >= -8 and q.max() <= 7 and e.min() >= -8 and e.max() <= 7


@pytest.mark.parametrize(("block", "latent", "nominal", "nmse"), [(8, 3, 4.0, 0.0150), (12, 4, 3.0, 0.0509)])
def test_normal_weights_keep_the_methods_error_at_no_more_than_its_bits(
    block: int, latent: int, nominal: float, nmse: float
) -> None:
    """The plain code has the .0150 and .0509 of an independent implementation; the neighbours of e take off 3%."""
    w = np.random.default_rng(0).normal(size=(256, 96)).astype(np.float32)
    errors = []
    for beside in (0, 1):
        code = seedlm.encode(w, block=block, latent=latent, beside=beside)
        errors.append(((seedlm.decode(code) - w) ** 2).mean() / (w**2).mean())
        assert len(code) * 8 / w.size < nominal - 0.15  # e and q are entropy-coded
    assert errors[0] == pytest.approx(nmse, rel=0.02) and 0.94 < errors[1] / errors[0] < 0.985
    assert seedlm.bits_per_weight(block, latent, 16) == nominal


@pytest.mark.parametrize("bits", sorted(TAPS))
def test_every_register_passes_through_all_its_states(bits: int) -> None:
    assert len(set(cycle(bits).tolist())) == (1 << bits) - 1


def test_impossible_configurations_are_refused() -> None:
    for wrong in ({"bits": 17}, {"block": 2, "latent": 3}, {"latent": 0}):
        with pytest.raises(ValueError, match="1 ≤ P ≤ C"):
            seedlm.encode(np.ones(8, np.float32), **wrong)
