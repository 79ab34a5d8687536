"""The ids of pieces of text that come again and again, kept: what a byte-level BPE makes of a corpus, at memory speed.

Such a tokenizer cuts a text by a regular expression before it merges, and merges never cross these cuts. GPT-2's
expression (Radford et al., 2019; `ByteLevel` of the `tokenizers` library) always cuts between a character that is no
white space and a space behind it: no alternative of it matches one and then the other, and none looks back. So the ids
of a text are those of its pieces between such places, one behind the other, whatever stands around them. A piece that
is new is encoded by the library itself; of one that came before, the ids are copied. Ids are the same by construction,
and a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from .blocks import Block
from .words import BASIS, PRIME, mixed

SLOTS = 1 << 21  # of the table; at most half of them are taken
BYTES = 1 << 25
"""Of all pieces that are kept; when they are full, the table begins anew."""


def _solid() -> np.ndarray:
    """Of each byte, whether a character that ends with it is surely no white space: (256,) bool."""
    solid = np.ones(256, dtype=np.bool_)
    white = [chr(code) for code in range(0x3001) if chr(code).isspace()]  # U+3000 is the last
    for character in [*white, "\u180e", "\u200b"]:  # which early Unicode took for white space
        solid[character.encode()[-1]] = False
    return solid


SOLID = _solid()
Library = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]


def falls_into_pieces(backend: dict[str, Any]) -> bool:
    """Whether a tokenizer's ids of a text are those of its pieces.

    :param backend: tokenizer.json.
    """
    model, splits = backend["model"], backend["pre_tokenizer"] or {}
    steps = splits["pretokenizers"] if splits.get("type") == "Sequence" else [splits]
    *before, last = steps
    return (
        backend["normalizer"] is None
        and model["type"] == "BPE"
        and not model["dropout"]
        and all(step["type"] == "Digits" for step in before)  # looks at one character alone
        and last.get("type") == "ByteLevel"
        and not last["add_prefix_space"]
        and last["use_regex"]
        and all(
            token["special"] for token in backend["added_tokens"]
        )  # others are looked for in all of a text
    )


class PieceTable:
    """Pieces with their ids.

    :param library: encodes texts: (ids,) uint32 one behind the other, and (texts,) how many each has.
    """

    def __init__(self, library: Library, slots: int = SLOTS, size: int = BYTES) -> None:
        self._library = library
        self._slots = np.zeros(slots, dtype=np.int32)  # number of a piece + 1
        self._hashes = np.empty(slots // 2, dtype=np.uint64)
        self._text, self._ends = np.empty(size, dtype=np.uint8), np.zeros(slots // 2 + 1, dtype=np.int64)
        self._ids, self._id_ends = np.empty(size, dtype=np.uint32), np.zeros(slots // 2 + 1, dtype=np.int64)
        self._count = 0

    def encode(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """(tokens,) uint32 of all documents, and (documents,) int64, how many each has."""
        lengths, first = np.zeros(block.documents, dtype=np.int64), 0
        found = [np.empty(0, dtype=np.uint32)]
        while first < block.documents:
            last, numbers, pieces = self._look_up(block, first)
            if last > first:
                found.append(_ids_of(numbers, pieces, self._ids, self._id_ends, lengths[first:last]))
            elif not self._count:  # a document with more pieces than the table holds
                ids, lengths[first : first + 1] = self._library([str(block.split()[first], "utf-8")])
                found.append(ids)
                last += 1
            if last < block.documents:
                self._slots[:] = self._count = 0
            first = last
        return np.concatenate(found), lengths

    def _look_up(self, block: Block, first: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Pieces of the documents from `first` on.

        :returns: the document that the table has no room for, the pieces' numbers, and how many each document has.
        """
        size = int(block.starts[-1] - block.starts[first])
        numbers = np.empty(size // 2 + 2 * block.documents, dtype=np.int32)
        pieces, known = np.zeros(block.documents - first, dtype=np.int64), self._count
        table = (self._slots, self._hashes, self._text, self._ends)
        last, found, self._count = _numbers(*block, first, SOLID, *table, known, numbers, pieces)
        if self._count > known:
            bounds = self._ends[known : self._count + 1].tolist()
            new = [self._text[a:b].tobytes().decode() for a, b in pairwise(bounds)]
            ids, lengths = self._library(new)
            start = self._id_ends[known]
            self._id_ends[known + 1 : self._count + 1] = start + np.cumsum(lengths)
            self._ids[start : start + len(ids)] = ids
        return last, numbers[:found], pieces[: last - first]


@njit(cache=True, nogil=True)
def _numbers(text, starts, first, solid, slots, hashes, kept, ends, count, numbers, pieces):  # type: ignore[no-untyped-def]
    """Number the pieces of documents; those that are new enter the table, which is asked by linear probing.

    A piece has two bytes at least, but for a document's first and last.
    """
    mask, found = np.uint64(len(slots) - 1), 0
    for document in range(first, len(starts) - 1):
        at, stop = starts[document], starts[document + 1]
        if count + (stop - at) // 2 + 2 > len(hashes) or ends[count] + stop - at > len(kept):
            return document, found, count
        before = found
        while at < stop:
            h, end = BASIS, at
            while True:
                h = (h ^ np.uint64(text[end])) * PRIME
                end += 1
                if end == stop or (text[end] == 32 and solid[text[end - 1]]):
                    break
            h = mixed(h)
            slot = h & mask
            while slots[slot] and not _is_piece(slots[slot] - 1, h, hashes, kept, ends, text, at, end):
                slot = (slot + np.uint64(1)) & mask
            if not slots[slot]:
                hashes[count], ends[count + 1] = h, ends[count] + end - at
                kept[ends[count] : ends[count + 1]] = text[at:end]
                count += 1
                slots[slot] = count
            numbers[found] = slots[slot] - 1
            found += 1
            at = end
        pieces[document - first] = found - before
    return len(starts) - 1, found, count


@njit(cache=True, nogil=True)
def _is_piece(number, h, hashes, kept, ends, text, start, stop):  # type: ignore[no-untyped-def]
    begin = ends[number]
    if hashes[number] != h or ends[number + 1] - begin != stop - start:
        return False
    for at in range(stop - start):  # noqa: SIM110 – numba has no generators in all()
        if kept[begin + at] != text[start + at]:
            return False
    return True


@njit(cache=True, nogil=True)
def _ids_of(numbers, pieces, ids, id_ends, lengths):  # type: ignore[no-untyped-def]
    """The ids of numbered pieces, and how many each document has into `lengths`."""
    size = 0
    for number in numbers:
        size += id_ends[number + 1] - id_ends[number]
    out, at, place = np.empty(size, dtype=np.uint32), 0, 0
    for document in range(len(pieces)):
        begin = at
        for number in numbers[place : place + pieces[document]]:
            for each in range(id_ends[number], id_ends[number + 1]):
                out[at] = ids[each]
                at += 1
        lengths[document], place = at - begin, place + pieces[document]
    return out
