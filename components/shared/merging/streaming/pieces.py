"""One tensor of all the models, in pieces of whole rows, on a few threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from ..checkpoint.operand import Operand
from ..inputs import MergeInputs

# Entries: large enough that threads seldom wait for each other between two operations, small enough that a float32 copy and
# a few of its kind stay within a core's cache.
PIECE = 1 << 17
AHEAD = 4  # pieces a thread may be ahead

T = TypeVar("T")


class Pieces:
    """One tensor of all models, a few rows at a time; what ../inputs.py calls a `WholeTensor`.

    :param shape: of the tensor in all models.
    :param parents: their tensors.
    :param base: the base's, where the method reads it.
    :param pool: of `threads` threads; None where that is one.
    :param whole: a tensor of one dimension is one row, and not cut.
    :param size: entries of a piece, unless a row has more.
    """

    def __init__(
        self,
        shape: Sequence[int],
        parents: Sequence[Operand],
        base: Operand | None,
        pool: ThreadPoolExecutor | None,
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
        if len(self.spans) <= 1 or self.threads == 1 or self.pool is None:
            yield from (work(self.piece(*span)) for span in self.spans)
            return
        waiting: deque[Future[T]] = deque()
        for span in self.spans:
            waiting.append(self.pool.submit(self._work, work, span))
            if len(waiting) > AHEAD * self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _work(self, work: Callable[[MergeInputs], T], span: tuple[int, int]) -> T:
        return work(self.piece(*span))

    def task_vector(self, parent: int) -> Iterator[Tensor]:
        """One parent's task vector, piece by piece, in this thread."""
        for first, last in self.spans:
            if self.base is None:
                raise ValueError("a task vector needs the base that the parents were trained from")
            yield self.parents[parent].read(first, last) - self.base.read(first, last)

    def each_parent(self, work: Callable[[int], T]) -> list[T]:
        """The results of `work` for every parent's number, side by side."""
        numbers = range(len(self.parents))
        if self.threads == 1 or self.pool is None:
            return list(map(work, numbers))
        return list(self.pool.map(work, numbers))


def rows_of(shape: Sequence[int], *, whole: bool = False) -> tuple[int, int]:
    """(rows, width) as pieces have them: rows along the last dimension; of a vector every entry, or (whole) one row."""
    if len(shape) >= 2:
        return math.prod(shape[:-1]), shape[-1]
    count = math.prod(shape)
    return (1, count) if whole else (count, 1)


class Line:
    """Work that goes on while the next tensor is looked at: a tensor's last pieces do not keep a thread waiting.

    :param pool: of `threads` threads; one thread works at once.
    """

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self.pool, self.threads = pool, threads
        self._waiting: deque[tuple[Future[None], Callable[[], None] | None]] = deque()

    def add(self, pieces: Pieces, work: Callable[[MergeInputs], None], after: Callable[[], None]) -> None:
        """Work on all pieces of a tensor, then do `after`, in this thread; errors of earlier ones are raised here too."""
        for number, span in enumerate(pieces.spans):
            last = number == len(pieces.spans) - 1
            if self.threads == 1:
                work(pieces.piece(*span))
                if last:
                    after()
                continue
            self._waiting.append((self.pool.submit(pieces._work, work, span), after if last else None))
            while len(self._waiting) > AHEAD * self.threads:
                self._next()

    def __enter__(self) -> Line:
        """Nothing waits yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for all that is left; after an error it is not begun, and what has begun ends before files are closed."""
        try:
            while kind is None and self._waiting:
                self._next()
        finally:
            for future, _after in self._waiting:
                if not future.cancel():
                    future.exception()

    def _next(self) -> None:
        future, after = self._waiting.popleft()
        future.result()
        if after is not None:
            after()


@contextmanager
def one_thread() -> Iterator[None]:
    """Take torch's own threads away: they would only get in the way of ours."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
