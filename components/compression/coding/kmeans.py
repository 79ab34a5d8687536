"""Weighted k-means (Lloyd) for codebooks."""

from __future__ import annotations

import numpy as np


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The index (n,) of the nearest of the centroids (k, v) for vectors (n, v), by pieces of at most 2^24 distances."""
    half_norm = 0.5 * (centroids**2).sum(axis=1)
    step = max((1 << 24) // max(len(centroids), 1), 1)
    pieces = [
        np.argmax(vectors[i : i + step] @ centroids.T - half_norm, axis=1)
        for i in range(0, len(vectors), step)
    ]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def kmeans(
    vectors: np.ndarray, weights: np.ndarray, k: int, rng: np.random.Generator, *, iterations: int = 25
) -> np.ndarray:
    """Centroids (k, v) float32 that lower Σ weight·‖vector − centroid‖². vectors (n, v), weights (n,) ≥ 0.

    Starts from k vectors drawn by weight; a centroid that loses all its vectors moves to the one that is served worst.
    Fits on at most 256·k + 16,384 vectors, drawn by weight. Fewer distinct vectors than k leave centroids unused.
    """
    vectors, weights = vectors.astype(np.float32), weights.astype(np.float64)
    if not len(vectors):
        return np.zeros((k, vectors.shape[1]), np.float32)
    if weights.sum() <= 0:
        weights = np.ones(len(vectors))
    limit = 256 * k + (1 << 14)
    if len(vectors) > limit:
        vectors = vectors[rng.choice(len(vectors), limit, p=weights / weights.sum())]
        weights = np.ones(limit)
    weighted = int((weights > 0).sum())
    chosen = rng.choice(len(vectors), min(k, weighted), replace=False, p=weights / weights.sum())
    centroids = np.resize(vectors[chosen], (k, vectors.shape[1])).astype(np.float32)
    before = np.inf
    for _ in range(iterations):
        label = nearest(vectors, centroids)
        cost = weights * ((vectors - centroids[label]) ** 2).sum(axis=1)
        if cost.sum() > before * (1 - 1e-4):
            break
        before = float(cost.sum())
        mass = np.bincount(label, weights, k)
        sums = np.stack([np.bincount(label, weights * column, k) for column in vectors.T], axis=1)
        centroids = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-300)[:, None], centroids)
        centroids = centroids.astype(np.float32)
        empty = np.flatnonzero(mass == 0)
        if len(empty):
            worst = np.argsort(-cost, kind="stable")[: len(empty)]
            centroids[empty[: len(worst)]] = vectors[worst]
    return centroids
