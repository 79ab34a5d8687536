"""One small interface over S3 and folders: what checkpoints, publishing and standalone runs need, no more.

A store is opened at an address (`s3://bucket/prefix` or a folder) and addresses what lies below it by keys:
relative POSIX names such as `step-100/weights.safetensors`. Both kinds keep the same promises:

- `put` is all or nothing: a reader sees the old bytes or the new ones, never a part.
- `put_if_absent` has exactly one winner, however many writers race.
- What was damaged on the way is refused, not returned.
"""

from __future__ import annotations

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingKey, StoreError

PARTIAL = ".forge-partial-"
"""Names that begin so are writes in progress, or probes. A killed writer may leave one; no listing shows it."""

TRANSFERS = 8
"""Files moved at the same time by `upload` and `download`."""

MULTIPART_BYTES = 8 * 2**20
"""From this size on, S3 objects are moved in parts, in parallel."""


@dataclass(frozen=True, order=True)
class StoredObject:
    """What a listing says of an object: its key, its size in bytes, and the store's own tag of its content, if any."""

    key: str
    bytes: int
    tag: str = ""


def is_safe_name(name: str) -> bool:
    """Whether `name` stays below the folder that it is joined to: relative, printable, without `..`."""
    return (
        name.isprintable()
        and "\\" not in name
        and not any(part in ("", ".", "..") for part in name.split("/"))
    )


class Store(ABC):
    """Bytes under keys.

    :raises StoreError: every method, where the store cannot be reached or refuses.
    """

    uri: str

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The bytes under `key`.

        :raises MissingKey: there are none.
        """

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes from `start` on, `length` of them, fewer where the object ends, none behind its end.

        :raises MissingKey: there is no such object.
        """

    @abstractmethod
    def put(self, key: str, data: bytes | Path) -> None:
        """Write bytes, or the content of a file, under `key`; replaces what was there."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        """Write only when nothing is under `key`. True for the one writer that did, False for all others."""

    @abstractmethod
    def list(self, prefix: str = "") -> list[StoredObject]:
        """All objects whose key begins with `prefix`, sorted by key."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether something is stored under exactly `key`."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it is not there."""

    @abstractmethod
    def fetch(self, key: str, path: Path) -> None:
        """Stream the object into the file `path`, which appears only when whole.

        :raises MissingKey: there is none.
        """

    @abstractmethod
    def sha256(self, key: str) -> str:
        """The SHA-256 of what is stored under `key`, read from its first byte to its last.

        :raises MissingKey: there is nothing.
        """

    def sweep(self) -> None:  # noqa: B027 # a store need not have such things
        """Remove the writes that somebody began here and did not end, where the store keeps such."""

    def upload(self, folder: Path, prefix: str = "", names: Iterable[str] | None = None) -> None:
        """Write the files of `folder` (all, or those named) under `prefix/`, several at a time.

        :raises StoreError: there is no such folder.
        """
        if not folder.is_dir():
            raise StoreError("there is no such folder to upload", where=str(folder), fix="check the path")
        files = sorted(walk(folder) if names is None else names)
        base = _directory(prefix)
        _all_at_once(lambda name: self.put(base + name, folder / name), files)

    def download(self, prefix: str, folder: Path) -> None:
        """Write every object under `prefix/` into `folder`, several at a time.

        :raises MissingKey: there is none.
        """
        base = _directory(prefix)
        names = [stored.key.removeprefix(base) for stored in self.list(base)]
        if not names:
            raise MissingKey("nothing is stored here", where=self.address(prefix), fix="check the address")
        for name in names:
            if not is_safe_name(name):
                raise StoreError(
                    "a key would be written outside its folder",
                    where=self.address(base + name),
                    fix="somebody has put it there: delete it",
                )
        _all_at_once(lambda name: self.fetch(base + name, folder / name), names)

    def address(self, key: str) -> str:
        """The full address of `key`, for messages."""
        return f"{self.uri}/{key}".rstrip("/")

    def probe(self) -> None:
        """Write a random key twice, if absent, and remove it.

        :raises StoreError: the store cannot be written, or lets two writers both be first.
        """
        key = f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            first, second = self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")
            content = self.get(key)
        finally:
            self.delete(key)
        if not first or second or content != b"first":
            raise StoreError(
                "the store overwrites where it was asked to write only if nothing is there",
                where=self.uri,
                why="two runs could destroy each other's artifacts",
                fix="use a folder, or a store that honours If-None-Match on PUT (Amazon S3, MinIO, Ceph)",
            )


def _directory(prefix: str) -> str:
    return prefix.rstrip("/") + "/" if prefix.strip("/") else ""


def _all_at_once(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(TRANSFERS) as pool:
        try:
            for transfer in as_completed([pool.submit(work, name) for name in names]):
                transfer.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def walk(folder: Path, prefix: str = "") -> Iterator[str]:
    """The names of the files below `folder` that begin with `prefix`, without writes in progress."""
    for root, _, files in os.walk(folder / prefix.rpartition("/")[0]):
        for file in files:
            name = Path(root, file).relative_to(folder).as_posix()
            if name.startswith(prefix) and not file.startswith(PARTIAL):
                yield name
