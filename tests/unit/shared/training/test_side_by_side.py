"""Pieces side by side: order, threads, errors."""

from __future__ import annotations

import threading

import pytest
import torch

from components.shared.training.side_by_side import side_by_side


@pytest.fixture
def threads():
    """Sets torch's threads, and puts them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_pieces_share_the_threads_and_results_keep_their_order(threads):
    threads(4)
    together = threading.Barrier(2, timeout=10)

    def work(piece):
        together.wait()
        return piece, torch.get_num_threads(), torch.is_grad_enabled()

    assert side_by_side(work, [1, 2]) == [(1, 2, True), (2, 2, True)]
    assert torch.get_num_threads() == 4


def test_with_one_thread_or_one_piece_nothing_is_started(threads):
    def where(piece):
        return threading.current_thread()

    threads(1)
    assert set(side_by_side(where, [1, 2])) == {threading.main_thread()}
    threads(2)
    assert side_by_side(where, [1]) == [threading.main_thread()]
    assert side_by_side(where, []) == []


def test_the_first_failure_is_raised_and_the_threads_are_put_back(threads):
    threads(2)

    def work(piece):
        raise ValueError(piece)

    with pytest.raises(ValueError, match="a"):
        side_by_side(work, ["a", "b"])
    assert torch.get_num_threads() == 2
