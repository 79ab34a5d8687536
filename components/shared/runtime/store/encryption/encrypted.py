"""A store that encrypts what another store holds; it keeps every promise of a store, over plain bytes.

    object    8 bytes that name this format · 16 bytes: the id of its data key · the ciphertext (streaming.py)

A ciphertext is bound to the last part of its key, so that no file can stand for another one of its folder. Listings
give plain sizes, and not the objects that keep the data keys. A folder is encrypted or it is not: where it has a data
key, what is not encrypted there is refused (or read, where FORGE_ENCRYPTION_PLAIN says so).
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from ...errors import DamagedObject, StoreError
from ..interface import PARTIAL, Store, StoredObject, is_safe_name
from . import streaming
from .data_keys import ID, DataKey, DataKeys, folder_of, is_key_object
from .key_ring import KeyRing
from .ranges import NotEncrypted, Ranges, part

T = TypeVar("T")

MAGIC = b"forge\x00e1"
PREAMBLE = len(MAGIC) + ID
ATTEMPTS = 3
"""So often a part is read again because the object was replaced between its header and its segments."""


class EncryptedStore(Store):
    """Everything in `inner`, as ciphertext there.

    :param inner: the store of ciphertext.
    :param ring: the key-encryption keys.
    """

    def __init__(self, inner: Store, ring: KeyRing) -> None:
        self.inner = inner
        self.uri = inner.uri
        self.ring = ring
        self.keys = DataKeys(inner, ring)

    @override
    def get(self, key: str) -> bytes:
        sealed = self.inner.get(key)
        with self._translated_errors(key):
            data_key = self._key_of(key, sealed[:PREAMBLE])
            if data_key is None:
                return sealed
            return streaming.decrypted(data_key.key, bound_to(key), sealed[PREAMBLE:])

    @override
    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._read_in_parts(
            key,
            lambda data_key: part(self.inner, key, PREAMBLE, data_key, bound_to(key), start, length),
            lambda: self.inner.get_range(key, start, length),
        )

    @override
    def sha256(self, key: str) -> str:
        def over_ranges(data_key: bytes) -> str:
            with io.BufferedReader(Ranges(self.inner, key, PREAMBLE), 16 * streaming.SEGMENT) as source:
                return streaming.sha256(data_key, bound_to(key), source)

        return self._read_in_parts(key, over_ranges, lambda: self.inner.sha256(key))

    @override
    def fetch(self, key: str, path: Path) -> None:
        partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            self.inner.fetch(key, partial)
            with self._translated_errors(key):
                with partial.open("rb") as file:
                    data_key = self._key_of(key, file.read(PREAMBLE))
                if data_key is not None:
                    streaming.decrypt_in_place(data_key.key, bound_to(key), partial, PREAMBLE)
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @override
    def put(self, key: str, data: bytes | Path) -> None:
        self._written(key, data, lambda sealed: self.inner.put(key, sealed))

    @override
    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        return self._written(key, data, lambda sealed: self.inner.put_if_absent(key, sealed))

    @override
    def list(self, prefix: str = "") -> builtins.list[StoredObject]:
        every = self.inner.list(folder_of(prefix))
        with_key = {folder_of(entry.key) for entry in every if is_key_object(entry.key)}
        return [
            StoredObject(
                entry.key, _plain_size(entry.bytes) if folder_of(entry.key) in with_key else entry.bytes, entry.tag
            )
            for entry in every
            if entry.key.startswith(prefix) and not is_key_object(entry.key)
        ]  # fmt: skip

    @override
    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    @override
    def delete(self, key: str) -> None:
        self.inner.delete(key)
        if not _is_probe(key):
            self.keys.drop(folder_of(key))

    @override
    def sweep(self) -> None:
        self.inner.sweep()

    def is_encrypted(self, key: str) -> bool:
        """Whether the object under `key` is ciphertext of this format."""
        return self.inner.get_range(key, 0, len(MAGIC)) == MAGIC

    def encrypt_in_place(self, key: str) -> None:
        """Replace an object that is not encrypted by its ciphertext. Nobody may be writing it."""
        with tempfile.TemporaryDirectory(prefix="forge-encrypt-") as folder:
            path = Path(folder) / "plain"
            self.inner.fetch(key, path)
            data_key = self.keys.for_writing(folder_of(key), over_plain=True)
            with _ciphertext(key, path, data_key) as sealed:
                self.inner.put(key, sealed)
            self.keys.keep(folder_of(key), data_key)

    def _written(self, key: str, data: bytes | Path, write: Callable[[bytes | Path], T]) -> T:
        if _is_probe(key):  # two words and a random name, which tell nothing and leave no data key behind
            return write(data)
        if not is_safe_name(key) or is_key_object(key):
            raise StoreError(
                f"not a key: {key!r}", where=self.uri, fix="use relative names without '..' or .forge-key-"
            )
        with self._translated_errors(key):
            if isinstance(data, Path) and not data.is_file():
                raise FileNotFoundError(f"there is no such file: {data}")
            data_key = self.keys.for_writing(folder_of(key))
            with _ciphertext(key, data, data_key) as sealed:
                written = write(sealed)
            self.keys.keep(folder_of(key), data_key)
        return written

    def _read_in_parts(self, key: str, read: Callable[[bytes], T], plain: Callable[[], T]) -> T:
        """What `read` makes of the object by several requests; again where another object has come between them."""
        for attempt in range(ATTEMPTS):
            preamble = self.inner.get_range(key, 0, PREAMBLE + streaming.HEADER)
            with self._translated_errors(key):
                data_key = self._key_of(key, preamble[:PREAMBLE])
                try:
                    return plain() if data_key is None else read(data_key.key)
                except streaming.NotAuthentic:
                    again = self.inner.get_range(key, 0, PREAMBLE + streaming.HEADER)
                    if again == preamble or attempt == ATTEMPTS - 1:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _key_of(self, key: str, preamble: bytes) -> DataKey | None:
        """The data key of an object that begins so; None where it is not encrypted, and that is allowed."""
        if preamble[: len(MAGIC)] == MAGIC:
            return self.keys.for_reading(folder_of(key), preamble[len(MAGIC) :])
        if self.ring.reads_plain or _is_probe(key):
            return None
        raise NotEncrypted(
            "an object is not encrypted, where only encrypted ones are expected",
            where=self.address(key),
            why="it was written before encryption was switched on, or by somebody without the key",
            fix=f"if you know it, encrypt it: forge encryption encrypt {self.uri}; "
            "FORGE_ENCRYPTION_PLAIN=read takes such objects as they are",
        )

    @contextlib.contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except streaming.NotAuthentic as error:
            raise DamagedObject(
                "an encrypted object is not what was written",
                where=self.address(key),
                why=str(error),
                fix="restore it from a copy, or have it made again",
            ) from error
        except OSError as error:
            raise StoreError(
                "a file on this machine is in the way",
                where=self.address(key),
                why=error.strerror or str(error),
                fix="check its path, its rights and the free space (TMPDIR holds one ciphertext)",
            ) from error


def bound_to(key: str) -> bytes:
    """What the ciphertext under a key is bound to: the last part of the key."""
    return key.rpartition("/")[2].encode()


def _is_probe(key: str) -> bool:
    return key.rpartition("/")[2].startswith(PARTIAL)


def _plain_size(stored: int) -> int:
    """What an object of so many bytes holds; the bytes themselves where no ciphertext has that size."""
    try:
        return streaming.plain_bytes(stored - PREAMBLE)
    except streaming.NotAuthentic:
        return stored


@contextlib.contextmanager
def _ciphertext(key: str, data: bytes | Path, data_key: DataKey) -> Iterator[bytes | Path]:
    """The object to store: of bytes in memory, of a file in a temporary one."""
    preamble = MAGIC + data_key.id
    if isinstance(data, bytes):
        yield preamble + streaming.encrypted(data_key.key, bound_to(key), data)
        return
    descriptor, name = tempfile.mkstemp(prefix="forge-encrypt-")
    try:
        with os.fdopen(descriptor, "wb") as target, data.open("rb") as source:
            target.write(preamble)
            streaming.encrypt(data_key.key, bound_to(key), source, target)
        yield Path(name)
    finally:
        os.unlink(name)
