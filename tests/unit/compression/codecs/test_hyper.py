"""Hyper-Compression: the nearest point of the line is found, and the error is the method's."""

from __future__ import annotations

import numpy as np
import pytest

from components.compression.codecs import hyper
from components.shared.models.remote_code.decode_hyper import class_radii, trajectory


def authors_trajectory(points: int, side: float) -> np.ndarray:
    """`get_Try` of the authors' code (Juntongkuki/Hyper-Compression, param_compress_new_uint_i.py), corner at 0."""
    root = np.ceil(np.sqrt(points))
    length = np.sqrt(side**2 + (side / root) ** 2)
    direction = np.array([side / root, side])
    step = length / root  # (side / sin α) / ⌈√U⌉ with sin α = side / length
    return (np.arange(points)[:, None] * (direction / np.linalg.norm(direction) * step)) % side


@pytest.mark.parametrize("points", [1600, 64, 30, 7, 2, 1])
def test_the_trajectory_is_that_of_the_authors_code(points: int) -> None:
    ours = trajectory(points, 0.5)[1:] + 0.25
    apart = np.abs(ours - authors_trajectory(points, 0.5))
    assert (
        np.minimum(apart, 0.5 - apart) < 1e-9
    ).all()  # a point on the border may fall on either side of it


@pytest.mark.parametrize("points", [1600, 1599, 64, 30, 7, 2, 1])
def test_the_nearest_point_is_the_one_an_exhaustive_search_finds(points: int) -> None:
    pairs = np.random.default_rng(points).uniform(-0.55, 0.55, (2000, 2))
    line = trajectory(points, 1.0)
    found = hyper.nearest(pairs, points, 1.0)
    squares = ((pairs[:, None] - line) ** 2).sum(axis=2)
    assert np.allclose(squares[np.arange(len(pairs)), found], squares.min(axis=1), rtol=0, atol=1e-15)


def test_normal_weights_keep_the_error_of_the_papers_setting() -> None:
    """U = 1600, M = 1 on N(0, 1), l = 5: NMSE .00139 at 12 bits a pair."""
    w = np.random.default_rng(0).normal(size=(512, 256)).astype(np.float32)
    code = hyper.encode(w, points=1600, classes=1, side=5.0)
    assert ((hyper.decode(code) - w) ** 2).mean() == pytest.approx(0.00139, rel=0.02)
    assert len(code) * 8 / w.size < 5.3  # of 6.0, after the entropy coder
    assert ((hyper.decode(hyper.encode(w)) - w) ** 2).mean() < 0.00125  # the side that is found by itself


def test_outer_pairs_are_drawn_in_by_class_and_come_back_whole() -> None:
    w = np.r_[np.random.default_rng(1).normal(size=2000), 40.0, 40.0, -35.0, 2.0].astype(np.float32)
    for classes in (1, 2, 5):
        decoded = hyper.decode(hyper.encode(w, points=1600, classes=classes, side=4.0))
        assert np.abs(decoded - w).max() < 2.5
    assert class_radii(4.0, 40.0, 2).tolist() == [2.0, 21.0, 40.0]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="U ≥ 1"):
        hyper.encode(np.ones(4, np.float32), points=0)
