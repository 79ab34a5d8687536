"""VPTQ: better than k-means and than GPTQ at no more bytes, where inputs are correlated."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs import vptq
from components.compression.coding.hessian import weighted_error
from components.compression.coding.kmeans import kmeans, nearest


@pytest.fixture(scope="module")
def layer() -> tuple[np.ndarray, np.ndarray]:
    """W (512, 256) and the Hessian of inputs with an uneven, correlated spectrum."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(256, 256)) * np.linspace(0.1, 1, 256) ** 2
    x = rng.normal(size=(2048, 256)) @ mix
    return rng.normal(size=(512, 256)).astype(np.float32) / 16, x.T @ x / len(x)


def gptq(w: np.ndarray, hessian: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, int]:
    """GPTQ (arXiv 2210.17323, algorithm 1) column by column with a symmetric uniform grid of 2^bits levels, each group's
    scale the best of 40; → decoded weights, and the bytes of its integers and float16 scales."""
    to_float16 = 2 ** (bits - 1)
    grouped = w.reshape(len(w), -1, group).astype(np.float64)
    scales, least = np.zeros(grouped.shape[:2]), np.full(grouped.shape[:2], np.inf)
    for share in np.linspace(0.3, 1, 40):
        scale = np.abs(grouped).max(axis=2) * share / (to_float16 - 0.5)
        value = (np.clip(np.floor(grouped / scale[..., None]), -to_float16, to_float16 - 1) + 0.5) * scale[
            ..., None
        ]
        error = ((grouped - value) ** 2).sum(axis=2)
        scales, least = np.where(error < least, scale, scales), np.minimum(error, least)
    scale = np.repeat(scales, group, axis=1)
    h = hessian + np.eye(len(hessian)) * 0.01 * np.trace(hessian) / len(hessian)
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    left, q = w.astype(np.float64).copy(), np.empty(w.shape)
    for j in range(w.shape[1]):
        q[:, j] = (np.clip(np.floor(left[:, j] / scale[:, j]), -to_float16, to_float16 - 1) + 0.5) * scale[
            :, j
        ]
        left[:, j + 1 :] -= np.outer((left[:, j] - q[:, j]) / u[j, j], u[j, j + 1 :])
    return q, w.size * bits // 8 + 2 * scales.size


def test_it_beats_plain_k_means_at_equal_bytes(layer: tuple[np.ndarray, np.ndarray]) -> None:
    w, hessian = layer
    with_hessian, plain = vptq.encode(w, hessian), vptq.encode(w)
    assert len(with_hessian) <= len(plain) * 1.001
    errors = [weighted_error(w, vptq.decode(code), hessian) for code in (with_hessian, plain)]
    assert errors[0] < 0.6 * errors[1]


def test_it_beats_gptq_on_a_uniform_grid_at_no_more_bytes(layer: tuple[np.ndarray, np.ndarray]) -> None:
    w, hessian = layer
    code = vptq.encode(w, hessian)
    peer, size = gptq(w, hessian, 2, 64)
    assert len(code) <= size
    assert weighted_error(w, vptq.decode(code), hessian) < 0.85 * weighted_error(w, peer, hessian)


def test_a_residual_codebook_lowers_the_error(layer: tuple[np.ndarray, np.ndarray]) -> None:
    w, hessian = layer
    errors = [
        weighted_error(w, vptq.decode(vptq.encode(w, hessian, centroids=64, residual=k)), hessian)
        for k in (0, 64)
    ]
    assert errors[1] < 0.4 * errors[0]


def test_outlier_columns_are_served_best_by_a_codebook_of_their_own() -> None:
    rng = np.random.default_rng(1)
    w = rng.normal(size=(256, 64)).astype(np.float32)
    w[:, :4] *= 20
    hessian = np.diag(np.r_[np.full(4, 100.0), np.ones(60)])
    own = vptq.encode(w, hessian, outliers=4 / 64)
    assert weighted_error(w, vptq.decode(own), hessian) < 0.5 * weighted_error(
        w, vptq.decode(vptq.encode(w, hessian)), hessian
    )


def test_norms_serve_small_rows_as_well_as_large_ones() -> None:
    rng = np.random.default_rng(2)
    size = np.exp(rng.normal(size=(256, 1)))
    w = (rng.normal(size=(256, 128)) * size).astype(np.float32)
    small = (size < np.quantile(size, 0.25))[:, 0]
    errors = [
        ((vptq.decode(vptq.encode(w, norms=norms)) - w)[small] ** 2).sum() / (w[small] ** 2).sum()
        for norms in (False, True)
    ]
    assert errors[1] < 0.15 < 0.5 < errors[0]


def test_k_means_of_normal_vectors_reaches_the_known_error() -> None:
    """v = 4, k = 256 on N(0, 1): mean squared error .0979 a weight, on vectors that it was not fitted to."""
    vectors, unseen = np.random.default_rng(3).normal(size=(2, 1 << 16, 4)).astype(np.float32)
    centroids = kmeans(vectors, np.ones(len(vectors)), 256, np.random.default_rng(0))
    assert ((unseen - centroids[nearest(unseen, centroids)]) ** 2).mean() == pytest.approx(0.0979, rel=0.03)


def test_k_means_weighs_its_vectors() -> None:
    vectors = np.array([[0.0], [1.0], [10.0]], np.float32)
    centroids = kmeans(vectors, np.array([1.0, 3.0, 0.0]), 1, np.random.default_rng(0))
    assert centroids[0, 0] == pytest.approx(0.75)


def test_more_centroids_than_vectors_is_exact() -> None:
    w = np.random.default_rng(4).normal(size=(8, 3)).astype(np.float16).astype(np.float32)
    assert ((vptq.decode(vptq.encode(w, centroids=64)) - w) ** 2).mean() < 1e-6


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"length": 0}, {"centroids": 0}, {"outliers": 1.0}, {"residual": -1}):
        with pytest.raises(ValueError, match="VPTQ needs"):
            vptq.encode(np.ones((4, 4), np.float32), **wrong)


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (512, 256)])
def test_asked_for_a_rate_it_keeps_to_it_and_errs_least_of_all_sizes_that_do(shape: tuple[int, int]) -> None:
    w = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    sized = vptq.encode(w, bits=2.0)
    assert len(sized) * 8 / w.size <= 2.0 + 8 * 64 / w.size  # and a frame
    error = ((vptq.decode(sized) - w) ** 2).mean()
    for length, centroids in ((1, 3), (1, 4), (2, 8), (2, 12), (3, 32), (4, 64), (4, 256)):
        other = vptq.encode(w, length=length, centroids=centroids)
        assert len(other) > len(sized) or ((vptq.decode(other) - w) ** 2).mean() > 0.99 * error


def test_a_rate_that_pays_for_no_codebook_leaves_one_centroid() -> None:
    w = np.ones((3, 3), np.float32)
    assert np.allclose(vptq.decode(vptq.encode(w, bits=1.0)), 1.0)
