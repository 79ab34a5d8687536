"""The words of documents as numbers: what deduplication and decontamination compare, in one pass over the bytes.

A word is a run of letters and digits, in lower case; punctuation and white space part words, as for GPT-3's filter
(Brown et al., arXiv 2005.14165, appendix C). Bytes from 128 on count as letters: text of any script has words, and
only A to Z are folded. Hashes are 64 bits: FNV-1a over a word's bytes, a polynomial over an n-gram's words, each
through splitmix64's finaliser (Steele et al., OOPSLA 2014).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .blocks import Block

BASIS, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # of FNV-1a
RADIX = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over words
MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
S27, S30, S31 = np.uint64(27), np.uint64(30), np.uint64(31)


def _letters() -> np.ndarray:
    """Of each byte the letter or digit that it counts as, or 0."""
    plain = bytes(range(256)).lower()  # A to Z alone
    letters = [byte if byte >= 128 or chr(byte).isalnum() else 0 for byte in plain]
    return np.array(letters, dtype=np.uint64)


LETTERS = _letters()


class Words(NamedTuple):
    """The words of some documents.

    :param text: (bytes,) uint8, document after document.
    :param starts: (documents + 1,) int64, where each begins in `text`.
    :param hashes: (words,) uint64.
    :param word_starts: (documents + 1,) int64, where the words of each begin.
    """

    text: np.ndarray
    starts: np.ndarray
    hashes: np.ndarray
    word_starts: np.ndarray


def words_of(block: Block) -> Words:
    """The words of documents."""
    hashes = np.empty(len(block.text) // 2 + block.documents + 1, dtype=np.uint64)
    word_starts = np.zeros(block.documents + 1, dtype=np.int64)
    _words(block.text, block.starts, LETTERS, hashes, word_starts)
    return Words(block.text, block.starts, hashes[: word_starts[-1]], word_starts)


def shingles(words: Words, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams of `size` words of each document; of a shorter one all its words, of one without words its bytes.

    :returns: (n-grams,) uint64 hashes, and (documents + 1,) uint64, where those of each document begin.
    """
    counts = np.diff(words.word_starts)
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(np.maximum(counts - size + 1, 1), out=starts[1:])
    grams = np.empty(starts[-1], dtype=np.uint64)
    _shingles(words.text, words.starts, words.hashes, words.word_starts, size, starts, grams)
    return grams, starts.astype(np.uint64)


def gram_hash(words: np.ndarray) -> int:
    """The hash of one n-gram: of all the words given."""
    found = np.empty(1, dtype=np.uint64)
    starts = np.array([0, len(words)], dtype=np.int64)
    nothing = np.empty(0, dtype=np.uint8)
    _shingles(nothing, np.zeros(2, np.int64), words, starts, len(words), np.array([0, 1]), found)
    return int(found[0])


@njit(cache=True, nogil=True)
def mixed(h):  # type: ignore[no-untyped-def]
    """splitmix64's finaliser of a uint64."""
    h = (h ^ (h >> S30)) * MIX[0]
    h = (h ^ (h >> S27)) * MIX[1]
    return h ^ (h >> S31)


@njit(cache=True, nogil=True)
def bytes_hash(text, start, stop):  # type: ignore[no-untyped-def]
    """The hash of a run of bytes as they are."""
    h = BASIS
    for at in range(start, stop):
        h = (h ^ np.uint64(text[at])) * PRIME
    return mixed(h)


@njit(cache=True, nogil=True)
def _words(text, starts, letters, hashes, word_starts):  # type: ignore[no-untyped-def]
    count = 0
    for document in range(len(starts) - 1):
        h, inside = BASIS, False
        for at in range(starts[document], starts[document + 1]):
            letter = letters[text[at]]
            if letter:
                h, inside = (h ^ letter) * PRIME, True
            elif inside:
                hashes[count] = mixed(h)
                count += 1
                h, inside = BASIS, False
        if inside:
            hashes[count] = mixed(h)
            count += 1
        word_starts[document + 1] = count


@njit(cache=True, nogil=True)
def _shingles(text, starts, hashes, word_starts, size, gram_starts, grams):  # type: ignore[no-untyped-def]
    for document in range(len(word_starts) - 1):
        first, last, out = word_starts[document], word_starts[document + 1], gram_starts[document]
        if first == last:
            grams[out] = bytes_hash(text, starts[document], starts[document + 1])
            continue
        length = min(size, last - first)
        top = np.uint64(1)
        for _ in range(length - 1):
            top *= RADIX
        h = np.uint64(0)
        for at in range(first, first + length):
            h = h * RADIX + hashes[at]
        grams[out] = mixed(h)
        for at in range(first + length, last):
            h = (h - hashes[at - length] * top) * RADIX + hashes[at]
            out += 1
            grams[out] = mixed(h)
