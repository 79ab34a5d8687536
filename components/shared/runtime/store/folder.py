"""A store in a folder: link(2) gives put-if-absent, rename(2) gives all-or-nothing, fsync makes both last."""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from ..errors import DamagedObject, MissingKey, StoreError
from .interface import PARTIAL, Store, StoredObject, is_safe_name, walk

TRANSIENT = (errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT)
"""What a network file system answers while its server is away."""

ATTEMPTS = 100
"""So often a folder is made again that another process removes because it is empty."""


def fsync(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderStore(Store):
    """A folder of this machine or of a shared file system. It is made by the first write.

    :param uri: its address, where that is not its path.
    """

    def __init__(self, root: Path, uri: str = "") -> None:
        self.root = root
        self.uri = uri or str(root)
        if root.exists() and not root.is_dir():
            raise StoreError(
                "the store's address is a file, not a folder", where=self.uri, fix="give a folder"
            )

    @override
    def get(self, key: str) -> bytes:
        with self._translated_errors(key):
            return self._file(key).read_bytes()

    @override
    def get_range(self, key: str, start: int, length: int) -> bytes:
        with self._translated_errors(key), self._file(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    @override
    def put(self, key: str, data: bytes | Path) -> None:
        with self._translated_errors(key), self._staged(self._path(key), data) as partial:
            os.replace(partial, self._path(key))

    @override
    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        if self._path(key).exists():
            return False
        with self._translated_errors(key), self._staged(self._path(key), data) as partial:
            try:
                os.link(partial, self._path(key))
            except FileExistsError:
                return False
        return True

    @override
    def list(self, prefix: str = "") -> builtins.list[StoredObject]:
        objects = []
        for name in walk(self.root, prefix):
            with contextlib.suppress(FileNotFoundError):  # deleted since
                if (self.root / name).is_file():  # no pipe, and no link that leads nowhere
                    about = (self.root / name).stat()
                    objects.append(StoredObject(name, about.st_size, str(about.st_mtime_ns)))
        return sorted(objects)

    @override
    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    @override
    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._translated_errors(key):
            path.unlink(missing_ok=True)
        for parent in path.parents:  # as in S3, a folder is there only for what it holds
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except OSError:
                break  # it holds something else, or is gone

    @override
    def fetch(self, key: str, path: Path) -> None:
        with self._translated_errors(key), self._staged(path, self._file(key)) as partial:
            os.replace(partial, path)

    @override
    def sha256(self, key: str) -> str:
        with self._translated_errors(key), self._file(key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @override
    def sweep(self) -> None:
        for path in self.root.rglob(f"{PARTIAL}*"):
            with self._translated_errors(""):
                path.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        """A regular file: reading a pipe would wait for whoever writes into it."""
        path = self._path(key)
        if not path.is_file():
            raise MissingKey("nothing is stored here", where=self.address(key))
        return path

    def _path(self, key: str) -> Path:
        if not is_safe_name(key):
            raise StoreError(f"not a key: {key!r}", where=self.uri, fix="use relative names without '..'")
        return self.root / key

    @contextlib.contextmanager
    def _staged(self, path: Path, data: bytes | Path) -> Iterator[Path]:
        """A whole, synced copy of `data` beside `path`, removed afterwards where it was not moved."""
        partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        for attempt in range(ATTEMPTS):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.touch()
                break
            except FileNotFoundError as error:
                if attempt == ATTEMPTS - 1:
                    raise OSError(errno.EACCES, "no folder can be made here", str(path.parent)) from error
                # else `delete` has just removed the empty folder
        try:
            if isinstance(data, Path):
                shutil.copyfile(data, partial)
            else:
                partial.write_bytes(data)
            fsync(partial)
            yield partial
            fsync(path.parent)
        finally:
            partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            raise MissingKey("nothing is stored here", where=error.filename or self.address(key)) from error
        except OSError as error:
            if error.errno == errno.EIO:
                raise DamagedObject(
                    "the disk does not give back what was stored",
                    where=error.filename or self.address(key),
                    why=error.strerror or "an input/output error",
                    fix="look at the disk (dmesg)",
                    transient=True,
                ) from error
            fix = "check the rights and the free space"
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                fix = (
                    "use a file system with hard links, or s3://: without them two writers may both be first"
                )
            raise StoreError(
                "the folder refuses",
                where=self.address(key),
                why=error.strerror or str(error),
                fix=fix,
                transient=error.errno in TRANSIENT,
            ) from error
