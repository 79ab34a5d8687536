"""One tensor of all the models, in pieces of whole rows, on a few threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..inputs import MergeInputs

PIECE = 1 << 16  # entries: a float32 copy of a piece, and a few of its kind, stay within a core's cache
AHEAD = 4  # pieces a thread may be ahead

T = TypeVar("T")


class Operand(Protocol):
    """One model's tensor, (rows, width)."""

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 in float32; not to be written to."""
        ...


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file has it. numbers: (rows·width,)."""

    numbers: Tensor
    width: int

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 in float32."""
        return self.numbers[first * self.width : last * self.width].float().view(-1, self.width)


class Pieces:
    """One tensor of all models, a few rows at a time; what ../inputs.py calls a `WholeTensor`.

    :param shape: of the tensor in all models.
    :param parents: their tensors.
    :param base: the base's, where the method reads it.
    :param pool: of `threads` threads.
    :param whole: a tensor of one dimension is one row, and not cut.
    :param size: entries of a piece, unless a row has more.
    """

    def __init__(
        self,
        shape: Sequence[int],
        parents: Sequence[Operand],
        base: Operand | None,
        pool: ThreadPoolExecutor,
        *,
        threads: int,
        whole: bool,
        size: int = PIECE,
    ) -> None:
        self.rows, self.width = rows_of(shape, whole=whole)
        self.parents, self.base, self.pool, self.threads = parents, base, pool, threads
        step = max(1, size // max(1, self.width))
        self.spans = [(first, min(first + step, self.rows)) for first in range(0, self.rows, step)]

    def piece(self, first: int, last: int) -> MergeInputs:
        """Rows first … last − 1 of every model, (rows, width)."""
        return MergeInputs(
            [parent.read(first, last) for parent in self.parents],
            None if self.base is None else self.base.read(first, last),
            first * self.width,
        )

    def map(self, work: Callable[[MergeInputs], T]) -> Iterator[T]:
        """The results of `work`, in the order of the pieces, whichever thread was first."""
        if len(self.spans) <= 1 or self.threads == 1:
            yield from (work(self.piece(*span)) for span in self.spans)
            return
        waiting: deque[Future[T]] = deque()
        for span in self.spans:
            waiting.append(self.pool.submit(lambda span: work(self.piece(*span)), span))
            if len(waiting) > AHEAD * self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def task_vector(self, parent: int) -> Iterator[Tensor]:
        """One parent's task vector, piece by piece, in this thread."""
        for first, last in self.spans:
            if self.base is None:
                raise ValueError("a task vector needs the base that the parents were trained from")
            yield self.parents[parent].read(first, last) - self.base.read(first, last)

    def each_parent(self, work: Callable[[int], T]) -> list[T]:
        """The results of `work` for every parent's number, side by side."""
        numbers = range(len(self.parents))
        return list(map(work, numbers) if self.threads == 1 else self.pool.map(work, numbers))


def rows_of(shape: Sequence[int], *, whole: bool = False) -> tuple[int, int]:
    """(rows, width) as pieces have them: rows along the last dimension; of a vector every entry, or (whole) one row."""
    if len(shape) >= 2:
        return math.prod(shape[:-1]), shape[-1]
    count = math.prod(shape)
    return (1, count) if whole else (count, 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Take torch's own threads away: they would only get in the way of ours."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
