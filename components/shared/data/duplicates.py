"""Near-duplicates: documents that share most of their word 5-grams, by MinHash.

The share that two sets have in common, |A∩B| / |A∪B|, is the chance that a random order of all elements puts the same
one first in both (Broder, SEQUENCES 1997). 128 such orders make a signature (rensa's R-MinHash); signatures are cut
into 16 bands of 8, and documents that agree in a band are compared, which finds 95 of 100 pairs that share 0.8 of
their 5-grams. That near-duplicates in training text are learnt by heart, and how to remove them: Lee et al., arXiv
2107.06499. As there, documents alike form clusters, and of each cluster one document stays: the first.

Of a document the keys of its bands and the low 8 bits of its signature are kept (b-bit minwise hashing, Li and König,
WWW 2010), on disk: 256 bytes a document, of which one band is in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
import rensa
from numba import njit

from .words import MIX, RADIX, Words, shingles

SHINGLE = 5
PERMUTATIONS, BANDS = 128, 16
ROWS = PERMUTATIONS // BANDS
SEED = 42  # of rensa's orders: the same documents are duplicates in every run
CHANCE = 1 / 256  # that 8 bits agree of numbers that differ
COMPARED = 1 << 15  # candidates at a time: 16 MiB of signatures at most


class Signatures:
    """The signatures of documents in their order, in files of a folder.

    :param folder: empty, and the caller's to remove.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.count = 0
        self._open = ExitStack()
        self._bands = [self._open.enter_context(self._band(band).open("wb")) for band in range(BANDS)]
        self._low = self._open.enter_context((folder / "low-bits").open("wb"))

    def add(self, words: Words) -> None:
        """Add documents."""
        grams, starts = shingles(words, SHINGLE)
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(grams, starts, PERMUTATIONS, SEED)
        values = chain.from_iterable(matrix.to_rows())  # which is all that a matrix gives
        signatures = np.fromiter(values, np.uint32, (len(starts) - 1) * PERMUTATIONS)
        signatures = signatures.reshape(-1, PERMUTATIONS)
        keys = np.empty((BANDS, len(signatures)), dtype=np.uint64)
        _band_keys(signatures, keys)
        for file, band in zip(self._bands, keys, strict=True):
            file.write(band.tobytes())
        self._low.write(signatures.astype(np.uint8).tobytes())
        self.count += len(signatures)

    def duplicates(self, threshold: float) -> np.ndarray:
        """Which documents repeat an earlier one: (documents,) bool. Nothing can be added afterwards.

        :param threshold: share of 5-grams in common from which two documents are alike.
        """
        self._open.close()
        first = np.arange(self.count, dtype=np.int64)
        with (self.folder / "low-bits").open("rb") as low:
            for pairs in self._candidates():
                apart = pairs[_apart(first, pairs)]  # copies agree in every band
                _join(first, apart[_share(low.fileno(), apart) >= threshold])
        return _roots(first) != np.arange(self.count)

    def _candidates(self) -> Iterator[np.ndarray]:
        """Pairs (n, 2) of documents that agree in a band: each with the first of its key, and with the one before it."""
        for band in range(BANDS):
            keys = np.fromfile(self._band(band), dtype=np.uint64)
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            again = np.flatnonzero(keys[1:] == keys[:-1]) + 1
            if not len(again):
                continue
            new = np.concatenate(([True], keys[1:] != keys[:-1]))
            begins = np.flatnonzero(new)
            of_run = begins[np.searchsorted(begins, again, side="right") - 1]
            del keys, new
            for at in range(0, len(again), COMPARED):
                later, run = again[at : at + COMPARED], of_run[at : at + COMPARED]
                others = run if (run == later - 1).all() else np.concatenate((run, later - 1))
                yield np.stack((order[others], order[np.resize(later, len(others))]), axis=1)

    def _band(self, number: int) -> Path:
        return self.folder / f"band-{number:02}"


def _share(low: int, pairs: np.ndarray) -> np.ndarray:
    """The estimated share of 5-grams that the documents of each pair have in common: (n,).

    :param low: descriptor of the file of low bits; read, not mapped, so that its pages are not this process' memory.
    """
    documents, places = np.unique(pairs, return_inverse=True)
    rows = np.empty((len(documents), PERMUTATIONS), dtype=np.uint8)
    for row, document in zip(rows, documents.tolist(), strict=True):
        os.preadv(low, [row.data], document * PERMUTATIONS)
    one, other = places.reshape(-1, 2).T
    share = (rows[one] == rows[other]).mean(axis=1)
    return (share - CHANCE) / (1 - CHANCE)


@njit(cache=True, nogil=True)
def _band_keys(signatures, keys):  # type: ignore[no-untyped-def]
    """The signatures (n, PERMUTATIONS) uint32 → keys (BANDS, n) uint64."""
    for document in range(len(signatures)):
        for band in range(BANDS):
            h = np.uint64(band)
            for row in range(band * ROWS, (band + 1) * ROWS):
                h = (h ^ np.uint64(signatures[document, row])) * MIX[0]
                h = (h ^ (h >> np.uint64(29))) * RADIX
            keys[band, document] = h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True)
def _root(first, document):  # type: ignore[no-untyped-def]
    while first[document] != document:
        first[document] = first[first[document]]
        document = first[document]
    return document


@njit(cache=True, nogil=True)
def _apart(first, pairs):  # type: ignore[no-untyped-def]
    """Which pairs are not yet known to be alike."""
    apart = np.empty(len(pairs), dtype=np.bool_)
    for at in range(len(pairs)):
        apart[at] = _root(first, pairs[at, 0]) != _root(first, pairs[at, 1])
    return apart


@njit(cache=True, nogil=True)
def _join(first, pairs):  # type: ignore[no-untyped-def]
    """Union–find (Tarjan, J. ACM 1975) whose root is the earliest document."""
    for at in range(len(pairs)):
        one, other = _root(first, pairs[at, 0]), _root(first, pairs[at, 1])
        if one != other:
            first[max(one, other)] = min(one, other)


@njit(cache=True, nogil=True)
def _roots(first):  # type: ignore[no-untyped-def]
    roots = np.empty_like(first)
    for document in range(len(first)):
        roots[document] = _root(first, document)
    return roots
