"""Packed rows: a corpus as one stream of tokens, cut into rows of equal length; each token knows its document.

Row r holds the tokens r·T … (r + 1)·T − 1; the last is filled up. Documents lie as they come, and are cut where a row
ends: nothing is thrown away, and no row is padding. In a batch the attention mask holds the document numbers, from 1;
0 is padding. What reads it (components/shared/training/packed.py) keeps documents apart, in attention and positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from components.shared.tasks.batches import IGNORED, Batch

from .permutation import Permutation
from .shards import Shards


class PackedRows:
    """The rows of a corpus, shuffled anew for every pass over it.

    :param length: T, tokens of a row.
    :param padding: id that fills up the last row.
    :param seed: of the order.
    """

    def __init__(self, shards: Shards, length: int, padding: int, seed: int) -> None:
        self.shards, self.length, self.padding, self.seed = shards, length, padding, seed
        self.rows = -(-shards.tokens // length)

    def batch(self, first: int, count: int) -> Batch:
        """The rows at the positions `first` … `first + count − 1` of the endless order: a function of these and the seed.

        No label asks for the first token of a document, which nothing before it tells of.
        """
        return self.packed([self.row_at(position) for position in range(first, first + count)])

    def row_at(self, position: int) -> int:
        """Which row stands at a position: each once in every pass."""
        epoch, index = divmod(position, self.rows)
        return Permutation(self.rows, f"rows/{self.seed}/{epoch}")[index]

    def packed(self, rows: Sequence[int]) -> Batch:
        """Some rows as a batch."""
        ids = np.full((len(rows), self.length), self.padding, dtype=np.int64)
        documents = np.zeros((len(rows), self.length), dtype=np.int64)
        for place, row in enumerate(rows):
            start = row * self.length
            stop = min(start + self.length, self.shards.tokens)
            ids[place, : stop - start] = self.shards.read(start, stop)
            begins = self.shards.documents(start, stop) - start
            documents[place, : stop - start] = 1 + np.searchsorted(
                begins, np.arange(stop - start), side="right"
            )
        first = np.diff(documents, prepend=0, axis=1) != 0
        labels = np.where(first | (documents == 0), IGNORED, ids)
        return Batch(*(torch.from_numpy(each) for each in (ids, labels, documents)))
