"""Decontamination: training documents that hold an evaluation item are left out.

The test is GPT-3's (Brown et al., arXiv 2005.14165, appendix C), whose 13-grams lm-evaluation-harness takes too: a
document is contaminated when it shares a run of 13 words with an item. As there, an item of 8 to 12 words counts as
one n-gram of its own length. An item of fewer words is no evidence inside of prose: it is looked for as a whole line,
byte for byte, its question with its answer right or a space behind it. Stricter than GPT-3, which cuts 200 characters
around a match: the whole document goes. And 13-grams that are frequent in the corpus are not forgiven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numba import njit

from components.shared.tasks.item import Item

from .blocks import Block
from .words import RADIX, Words, bytes_hash, gram_hash, mixed, words_of

LONGEST, SHORTEST = 13, 8
"""Words of an n-gram: of items that have as many, and of the shortest item that is one n-gram."""
NEWLINE = 10
BITS = 22
"""Of a hash, that a table of one bit each is asked by: half a MiB, at which nearly all of a text ends."""


class Contamination:
    """What training text may not hold.

    :param items: of every evaluation.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        grams: dict[int, set[int]] = {}
        begins, lines, lengths = set[int](), set[int](), set[int]()
        texts = sorted({text for item in items for text in _texts(item)})
        for (text, short), words in zip(texts, _words_each([text for text, _ in texts]), strict=True):
            size = min(len(words), LONGEST)
            if size >= SHORTEST:
                found = grams.setdefault(size, set())
                places = range(len(words) - size + 1)
                found.update(gram_hash(words[at : at + size]) for at in places)
                begins.update(gram_hash(words[at : at + SHORTEST]) for at in places)
            elif short:
                line = np.frombuffer(text.strip().encode(), dtype=np.uint8)
                lines.add(int(bytes_hash(line, 0, len(line))))
                lengths.add(len(line))
        sizes = sorted(grams)
        self._sizes = np.array(sizes, dtype=np.int64)
        self._starts = np.cumsum([0, *(len(grams[size]) for size in sizes)])
        self.grams = np.concatenate([_sorted(set()), *(_sorted(grams[size]) for size in sizes)])
        self.lines = _sorted(lines)
        self.digest = hashlib.sha256(repr(texts).encode()).hexdigest()
        """Of the items: another set of them makes another corpus."""
        self._begins, self._line_table = _table(_sorted(begins)), _table(self.lines)
        self._lengths = np.zeros(max(lengths, default=0) + 1, dtype=np.bool_)
        self._lengths[list(lengths)] = True

    def __bool__(self) -> bool:
        return bool(len(self.lines) or len(self.grams))

    def found_in(self, words: Words) -> np.ndarray:
        """Which documents hold an item: (documents,) bool."""
        found = np.zeros(len(words.starts) - 1, dtype=np.bool_)
        if len(self.grams):
            starts, grams = self._starts, self.grams
            _grams_in(words.hashes, words.word_starts, self._begins, self._sizes, starts, grams, found)
        if len(self.lines):
            ends = np.flatnonzero(words.text == NEWLINE)
            _lines_in(words.text, words.starts, ends, self._lengths, self._line_table, self.lines, found)
        return found


def _texts(item: Item) -> list[tuple[str, bool]]:
    """What an item says, and whether it says enough to be looked for as a line: a question alone does not."""
    asked = [(content, False) for content in (item.prompt, item.scratch, item.answer) if content]
    if not item.prompt:
        return asked
    answered = {f"{item.prompt}{item.answer}", f"{item.prompt.rstrip()} {item.answer.lstrip()}"}
    return [*asked, *((text, True) for text in sorted(answered))]


def _words_each(texts: Sequence[str]) -> list[np.ndarray]:
    words = words_of(Block.of([text.encode() for text in texts]))
    return np.split(words.hashes, words.word_starts[1:-1])[: len(texts)]


def _sorted(hashes: set[int]) -> np.ndarray:
    return np.array(sorted(hashes), dtype=np.uint64)


def _table(hashes: np.ndarray) -> np.ndarray:
    """A bit for each value that the upper bits of a hash can have: whether one of these has it."""
    table = np.zeros(1 << BITS, dtype=np.bool_)
    table[hashes >> np.uint64(64 - BITS)] = True
    return np.packbits(table, bitorder="little")


@njit(cache=True, nogil=True)
def _may_be_in(h, table):  # type: ignore[no-untyped-def]
    return table[h >> np.uint64(67 - BITS)] >> (h >> np.uint64(64 - BITS) & np.uint64(7)) & 1


@njit(cache=True, nogil=True)
def _is_in(h, hashes, low, high):  # type: ignore[no-untyped-def]
    """Whether a uint64 is one of the sorted ones from `low` to `high`."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] < h:
            low = middle + 1
        else:
            high = middle
    return low < end and hashes[low] == h


@njit(cache=True, nogil=True)
def _grams_in(words, word_starts, begins, sizes, starts, hashes, found):  # type: ignore[no-untyped-def]
    """The n-grams of all sizes in one pass: only behind the first SHORTEST words of one is any looked for."""
    top = np.uint64(1)
    for _ in range(SHORTEST - 1):
        top *= RADIX
    for document in range(len(word_starts) - 1):
        first, last = word_starts[document], word_starts[document + 1]
        h = np.uint64(0)
        for at in range(first, last):
            gone = words[at - SHORTEST] * top if at - first >= SHORTEST else np.uint64(0)
            h = (h - gone) * RADIX + words[at]
            begin = at - SHORTEST + 1
            if (
                begin >= first
                and _may_be_in(mixed(h), begins)
                and _begins_a_gram(words, begin, last, sizes, starts, hashes)
            ):
                found[document] = True
                break


@njit(cache=True, nogil=True)
def _begins_a_gram(words, begin, last, sizes, starts, hashes):  # type: ignore[no-untyped-def]
    for number in range(len(sizes)):
        end = begin + sizes[number]
        if end > last:
            return False
        h = np.uint64(0)
        for at in range(begin, end):
            h = h * RADIX + words[at]
        if _is_in(mixed(h), hashes, starts[number], starts[number + 1]):
            return True
    return False


@njit(cache=True, nogil=True)
def _lines_in(text, starts, ends, lengths, table, lines, found):  # type: ignore[no-untyped-def]
    """`ends` are the places of all newlines; lines of other lengths than the items' are not hashed."""
    newline = 0
    for document in range(len(starts) - 1):
        stop, begin = starts[document + 1], starts[document]
        while begin < stop:
            while newline < len(ends) and ends[newline] < begin:
                newline += 1
            end = min(ends[newline], stop) if newline < len(ends) else stop
            left, right = begin, end
            while left < right and text[left] <= 32:
                left += 1
            while right > left and text[right - 1] <= 32:
                right -= 1
            begin = end + 1
            if left == right or right - left >= len(lengths) or not lengths[right - left]:
                continue
            h = bytes_hash(text, left, right)
            if _may_be_in(h, table) and _is_in(h, lines, 0, len(lines)):
                found[document] = True
                break
