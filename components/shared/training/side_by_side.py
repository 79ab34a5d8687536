"""Independent pieces of work on a CPU side by side, each with threads of its own.

torch's own threads share out every single operation and wait for one another after it, spinning. For a network whose
operations take microseconds that costs more than it gives, and beside other work on the machine many times more: a step of
the tiny profile's trunk took 0.47 CPU-seconds so at best, 0.11 with one thread for each half of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

Piece = TypeVar("Piece")
Result = TypeVar("Result")
SMALL = 1 << 24
"""Parameters of a network up to which its work goes side by side: its operations are short, its activations small."""


def pieces_of(model: nn.Module) -> Callable[[Callable[[Piece], Result], Sequence[Piece]], list[Result]]:
    """`side_by_side` for pieces that go through a small network on a CPU; for others, one after another."""
    return side_by_side if is_small(model.parameters()) else lambda work, pieces: list(map(work, pieces))


def is_small(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether these are on a CPU, and so few that pieces of work go through their network side by side."""
    parameters = list(parameters)
    return (
        all(each.device.type == "cpu" for each in parameters) and sum(map(torch.numel, parameters)) <= SMALL
    )


def side_by_side(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """The results of `work` on every piece, in the order of the pieces.

    As many pieces at a time as torch has threads, which are shared out among them; with one thread, or one piece, this is
    a loop. What comes out is the same for each number of threads up to that of the pieces: then every piece has one.

    :param work: is called in other threads; gradients are on in it, whatever they are around it.
    :raises Exception: what the first piece that failed raised.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(pieces))
    if workers < 2:
        return [work(piece) for piece in pieces]
    try:
        with ThreadPoolExecutor(workers, "piece", torch.set_num_threads, (threads // workers,)) as pool:
            return list(pool.map(work, pieces))
    finally:
        torch.set_num_threads(threads)  # threads that are made later begin with what was last set
