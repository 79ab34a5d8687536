"""Batches made ahead of the step that takes them, in threads, while the step before computes.

What a step draws is a function of its arguments alone, so that it can be drawn early; drawn for nothing, it is dropped. For
a GPU the tensors are put into pinned memory, from which they are copied while it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from components.shared.tasks.batches import Batch

Draw = Callable[..., list[Batch]]


class Ahead:
    """`draw(step, …)`, with the next steps' batches under way.

    :param draw: step and what else it depends on → its batches; called in threads.
    :param workers: threads, and steps ahead; 0: drawn when asked for.
    """

    def __init__(self, draw: Draw, workers: int) -> None:
        self.draw, self.workers = draw, workers
        self.pool = ThreadPoolExecutor(workers, "ahead") if workers else None
        self.waiting: dict[tuple[Any, ...], Future[list[Batch]]] = {}

    def __call__(self, step: int, *others: Any) -> list[Batch]:
        """The batches of a step."""
        if self.pool is None:
            return self.draw(step, *others)
        for number in range(step, step + self.workers + 1):
            key = (number, *others)
            if key not in self.waiting:
                self.waiting[key] = self.pool.submit(self._pinned, *key)
        made = self.waiting.pop((step, *others)).result()
        for key in [key for key in self.waiting if key[0] <= step or key[1:] != others]:
            self.waiting.pop(key).cancel()
        return made

    def close(self) -> None:
        """The last step is taken."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def _pinned(self, *arguments: Any) -> list[Batch]:
        made = self.draw(*arguments)
        if not torch.cuda.is_available():
            return made
        return [Batch(*(tensor.pin_memory() for tensor in batch)) for batch in made]
