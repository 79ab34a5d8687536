"""The third layer: files beside the runs, bounded in bytes. Each is sealed, so that half of one is none.

    <folder>/<first two of the digest>/<digest>/<view>

Several processes may share a folder. Each counts what it writes, and looks at the whole when that may be too much.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

from components.shared.runtime.atomic import write_atomically

from .key import Key, sealed, unsealed

KEPT_SHARE = 0.9
"""How full it is left by a clean-up."""


class Disk:
    """Entries on disk. Its methods block: they are called in threads.

    :param limit: bytes of all files.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.evicted = 0
        self.bytes = -1  # not known yet
        self._counting = threading.Lock()

    def get(self, key: Key) -> bytes | None:
        """The value; a file that is damaged is removed."""
        path = self._path(key)
        try:
            value = unsealed(key, path.read_bytes())
            if value is None:
                path.unlink(missing_ok=True)
            else:
                os.utime(path)  # used: it goes last
        except OSError:  # there is none, or another process has just removed it
            return None
        return value

    def put(self, key: Key, value: bytes) -> None:
        """Keep a value; the files that were used least lately make room.

        :raises OSError: the disk takes no more.
        """
        data = sealed(key, value)
        if len(data) > self.limit:
            return
        write_atomically(self._path(key), data)
        with self._counting:
            if self.bytes < 0:
                self.bytes = sum(size for _, size, _ in self._files())
            else:
                self.bytes += len(data)
            if self.bytes > self.limit:
                self._make_room()

    def forget(self, digest: str) -> None:
        """Remove every view of a digest."""
        shutil.rmtree(self.folder / digest[:2] / digest, ignore_errors=True)

    def _path(self, key: Key) -> Path:
        return self.folder / key.digest[:2] / key.digest / key.name

    def _files(self) -> list[tuple[float, int, str]]:
        found = []
        for root, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(root, name)
                with contextlib.suppress(FileNotFoundError):
                    entry = os.stat(path)
                    found.append((entry.st_mtime, entry.st_size, path))
        return sorted(found)

    def _make_room(self) -> None:
        files = self._files()
        self.bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self.bytes <= self.limit * KEPT_SHARE:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))  # where it was the last view
            self.bytes -= size
            self.evicted += 1
