"""A store in a folder: link(2) gives put-if-absent, rename(2) gives all-or-nothing, fsync makes both last."""

from __future__ import annotations

import builtins
import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import MissingKey, StoreError
from .store import PARTIAL, Entry, Store, is_safe_name, walk


def fsync(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderStore(Store):
    """A folder of this machine or of a shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        if root.exists() and not root.is_dir():
            raise StoreError("the store's place is a file, not a folder", where=self.uri, fix="give a folder")

    def _path(self, key: str) -> Path:
        if not is_safe_name(key):
            raise StoreError(f"not a key: {key!r}", where=self.uri, fix="use relative names without '..'")
        return self.root / key

    @contextlib.contextmanager
    def _written(self, path: Path, data: bytes | Path) -> Iterator[Path]:
        """A whole, synced copy of `data` beside `path`, removed afterwards where it was not moved."""
        partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):
                shutil.copyfile(data, partial)
            else:
                partial.write_bytes(data)
            fsync(partial)
            yield partial
            fsync(path.parent)
        except OSError as error:
            raise StoreError(
                "the folder cannot be written",
                where=str(path),
                why=str(error),
                fix="check rights and free space",
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingKey("nothing is stored here", where=self.address(key)) from None

    def put(self, key: str, data: bytes | Path) -> None:
        path = self._path(key)
        with self._written(path, data) as partial:
            os.replace(partial, path)

    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        path = self._path(key)
        if path.exists():
            return False
        with self._written(path, data) as partial:
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
        return True

    def list(self, prefix: str = "") -> builtins.list[Entry]:
        names = (name for name in walk(self.root) if name.startswith(prefix))
        return sorted(Entry(name, (self.root / name).stat().st_size) for name in names)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def fetch(self, key: str, path: Path) -> None:
        source = self._path(key)
        if not source.is_file():
            raise MissingKey("nothing is stored here", where=self.address(key))
        FolderStore(path.parent).put(path.name, source)
