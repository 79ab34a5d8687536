"""Documents many at a time: their bytes one behind the other, as the compiled loops read them, and where each begins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """Some documents in UTF-8.

    :param text: (bytes,) uint8, document after document; read only.
    :param starts: (documents + 1,) int64, where each begins in `text`.
    """

    text: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, documents: Sequence[bytes | memoryview]) -> Block:
        """The block of documents in their order."""
        starts = np.zeros(len(documents) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, documents), np.int64, len(documents)), out=starts[1:])
        return cls(np.frombuffer(b"".join(documents), dtype=np.uint8), starts)

    @property
    def documents(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    def split(self) -> list[memoryview]:
        """The documents one by one."""
        text, bounds = self.text.data, self.starts.tolist()
        return [text[start:stop] for start, stop in pairwise(bounds)]

    def only(self, stays: np.ndarray) -> Block:
        """The documents that stay.

        :param stays: (documents,) bool.
        """
        if stays.all():
            return self
        documents = self.split()
        return Block.of([documents[place] for place in np.flatnonzero(stays)])
