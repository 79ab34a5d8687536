"""A shuffle that needs no memory: a permutation of 0 … n − 1 of which any element is computed from a key.

A Feistel network (Luby and Rackoff, SIAM J. Comput. 1988) of six rounds permutes the numbers of 2·b bits; those
beyond n are permuted again until one is inside (cycle walking: Black and Rogaway, CT-RSA 2002), less than four times
on average.
"""

from __future__ import annotations

import hashlib

ROUNDS = 6
MASK = (1 << 64) - 1


class Permutation:
    """One shuffle.

    :param size: n, at least 1.
    :param key: anything that tells this shuffle from others, as a text.
    """

    def __init__(self, size: int, key: str) -> None:
        self.size = size
        self.bits = max(1, -(-(size - 1).bit_length() // 2))
        digest = hashlib.sha256(key.encode()).digest() + hashlib.sha256(b"+" + key.encode()).digest()
        self.keys = [int.from_bytes(digest[8 * n : 8 * n + 8], "little") for n in range(ROUNDS)]

    def __getitem__(self, index: int) -> int:
        """Where `index`, of 0 … n − 1, goes."""
        index = self._permuted(index)
        while index >= self.size:
            index = self._permuted(index)
        return index

    def _permuted(self, index: int) -> int:
        low = (1 << self.bits) - 1
        left, right = index >> self.bits, index & low
        for key in self.keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        return left << self.bits | right


def _mixed(h: int) -> int:
    """splitmix64's finaliser (Steele et al., OOPSLA 2014)."""
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & MASK
    h = (h ^ h >> 27) * 0x94D049BB133111EB & MASK
    return h ^ h >> 31
