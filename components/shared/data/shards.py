"""Tokens on disk, mapped into memory: flat files of ids, and where each document ends.

    tokens-00000.bin …    little-endian ids of 16 or 32 bits, SHARD tokens a file but for the last
    documents.bin         (documents,) int64: where each ends, counted in tokens from the start of the corpus
    corpus.json           what it is: files with their SHA-256, counts, digests

Pages that were read are given back now and then: what a process has resident does not grow with what it reads.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
from pathlib import Path
from typing import IO

import numpy as np

from components.shared.runtime.artifact.manifest import FileEntry

SHARD = 1 << 27
"""Tokens of a file."""
RESIDENT = 1 << 28
"""Bytes read after which mapped pages are given back."""
DOCUMENTS = "documents.bin"


class ShardWriter:
    """Writes documents one behind the other.

    :param folder: empty.
    """

    def __init__(self, folder: Path, shard: int = SHARD) -> None:
        self.folder, self.shard = folder, shard
        self.files: dict[str, FileEntry] = {}
        self.tokens = self.documents = 0
        self._file: _Hashed | None = None
        self._ends = _Hashed(folder / DOCUMENTS)

    def add(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        """Write documents.

        :param ids: (tokens,) of the corpus' number format, document after document.
        :param lengths: (documents,) tokens of each.
        """
        ends = self.tokens + np.cumsum(lengths, dtype=np.int64)
        while len(ids):
            if self._file is None:
                self._file = _Hashed(self.folder / f"tokens-{self.tokens // self.shard:05}.bin")
            piece, ids = np.split(ids, [self.shard - self.tokens % self.shard])
            self._file.write(piece.data.cast("B"))
            self.tokens += len(piece)
            if self.tokens % self.shard == 0:
                self._end()
        self._ends.write(ends.astype("<i8").tobytes())
        self.documents += len(ends)

    def close(self) -> None:
        """Everything is written; `files` is whole."""
        self._end()
        self.files[DOCUMENTS] = self._ends.close()

    def _end(self) -> None:
        if self._file is not None:
            self.files[self._file.path.name] = self._file.close()
            self._file = None


class _Hashed:
    """A file whose SHA-256 is taken while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[bytes] = path.open("wb")
        self.digest, self.size = hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)

    def close(self) -> FileEntry:
        self.file.close()
        return {"sha256": self.digest.hexdigest(), "bytes": self.size}


class Shards:
    """Reads them.

    :param folder: with the files; their names are in their order.
    :param dtype: of the ids.
    :param tokens: in all.
    """

    def __init__(self, folder: Path, dtype: str, tokens: int, shard: int = SHARD) -> None:
        self.dtype, self.tokens, self.shard = np.dtype(dtype), tokens, shard
        names = [f"tokens-{number:05}.bin" for number in range(-(-tokens // shard))]
        self._maps = [_mapped(folder / name) for name in names]
        self._ends = _mapped(folder / DOCUMENTS)
        self.ends = np.frombuffer(self._ends, dtype="<i8")
        """(documents,) where each document ends."""
        self._read, self._lock = 0, threading.Lock()

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to `stop`: (stop − start,) int64."""
        out = np.empty(stop - start, dtype=np.int64)
        at = start
        while at < stop:
            number, offset = divmod(at, self.shard)
            count = min(stop - at, self.shard - offset)
            out[at - start : at - start + count] = np.frombuffer(
                self._maps[number], dtype=self.dtype, count=count, offset=offset * self.dtype.itemsize
            )
            at += count
        self._give_back((stop - start) * self.dtype.itemsize)
        return out

    def documents(self, start: int, stop: int) -> np.ndarray:
        """Where documents begin strictly between two tokens: (n,) int64, counted from the start of the corpus."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.ends, stop, side="left"))
        return self.ends[first:last]

    def _give_back(self, read: int) -> None:
        """Let go of the pages that were read; those that are needed again come from the page cache."""
        with self._lock:
            self._read += max(read, mmap.PAGESIZE)
            if self._read < RESIDENT:
                return
            self._read = 0
        for each in (*self._maps, self._ends):
            each.madvise(mmap.MADV_DONTNEED)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
