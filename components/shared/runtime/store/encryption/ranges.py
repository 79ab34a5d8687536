"""Parts of an encrypted object, by requests for parts of its ciphertext."""

from __future__ import annotations

import io

from typing_extensions import Buffer, override

from ...errors import StoreError
from ..interface import Store
from .streaming import HEADER, SEGMENT, TAG, NotAuthentic, Segments, plain_bytes, span


class NotEncrypted(StoreError):
    """An object is plain where only encrypted ones are expected."""


class Ranges(io.RawIOBase):
    """An object of a store as a stream, from its byte `start` on."""

    def __init__(self, store: Store, key: str, start: int) -> None:
        self.store = store
        self.key = key
        self.place = start

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer) -> int:
        """Fill `buffer` as far as there is something left."""
        view = memoryview(buffer).cast("B")
        data = self.store.get_range(self.key, self.place, len(view))
        view[: len(data)] = data
        self.place += len(data)
        return len(data)


def part(
    store: Store, key: str, skip: int, data_key: bytes, associated: bytes, start: int, length: int
) -> bytes:
    """The plain bytes from `start` on, `length` of them, fewer at the end.

    :param skip: bytes before the ciphertext.
    :raises NotAuthentic: what was read is not what was written, or the object's end is cut off.
    """
    segments = Segments(data_key, associated, store.get_range(key, skip, HEADER))
    first, after, before = span(start, length)
    begin = first * SEGMENT if first else HEADER
    sealed = memoryview(store.get_range(key, skip + begin, after * SEGMENT - begin))
    plain, place, ended = [], 0, False
    for number in range(first, after):
        size = SEGMENT if number else SEGMENT - HEADER
        piece = sealed[place : place + size]
        if not piece:
            break
        place += size
        data, ended = _opened(segments, number, piece, whole=len(piece) == size)
        plain.append(data)
    if place < len(sealed) or (len(plain) < after - first and not ended):
        _require_end(store, key, skip, segments)
    return b"".join(plain)[before : before + length]


def _opened(segments: Segments, number: int, piece: memoryview, *, whole: bool) -> tuple[bytes, bool]:
    """A segment, and whether it is the last; a whole one may be either, and its nonce says which it was written as."""
    if whole:
        try:
            return segments.open(number, False, piece), False
        except NotAuthentic:
            return segments.open(number, True, piece), True
    return segments.open(number, True, piece), True


def _require_end(store: Store, key: str, skip: int, segments: Segments) -> None:
    """Look at the object's last segment: an end that was cut off must not look like the end.

    :raises NotAuthentic: it is not the last one that was written.
    """
    size = next((entry.bytes for entry in store.list(key) if entry.key == key), 0) - skip
    plain_bytes(size)
    last = (size - TAG) // SEGMENT
    begin = last * SEGMENT if last else HEADER
    segments.open(last, True, store.get_range(key, skip + begin, SEGMENT))
