"""The key-encryption keys of this process, as its environment names them: the newest wraps, all unwrap.

FORGE_ENCRYPTION_KEY_FILE     files with 32 bytes each, the newest first, separated as in PATH
FORGE_ENCRYPTION_KMS_KEY_ID   keys of AWS KMS, the newest first, separated by commas; where there is one, it wraps,
                              and the files only unwrap
FORGE_ENCRYPTION_PLAIN        refuse (the default) or read: what lies in a store that was not encrypted yet
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...errors import ConfigError, DamagedObject, StoreError
from .key_files import FileKey

KEY_FILE = "FORGE_ENCRYPTION_KEY_FILE"
KMS_KEY_ID = "FORGE_ENCRYPTION_KMS_KEY_ID"
PLAIN = "FORGE_ENCRYPTION_PLAIN"


class KeyEncryptionKey(Protocol):
    """What wraps data keys; `name` tells it from others and is no secret."""

    name: str

    def new(self, context: str) -> tuple[bytes, bytes]:
        """A new data key, plain and wrapped."""
        ...

    def wrap(self, key: bytes, context: str) -> bytes:
        """A data key, encrypted."""
        ...

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The data key; ValueError where it was not wrapped by this key for this context."""
        ...


@dataclass(frozen=True)
class KeyRing:
    """All keys that this process may use.

    :param keys: the newest first; at least one.
    :param reads_plain: whether objects that are not encrypted are given as they are.
    """

    keys: Sequence[KeyEncryptionKey]
    reads_plain: bool = False

    @property
    def newest(self) -> KeyEncryptionKey:
        """The one that wraps."""
        return self.keys[0]

    def unwrap(self, name: str, wrapped: bytes, context: str, where: str) -> bytes:
        """A data key that the key-encryption key called `name` has wrapped.

        :raises StoreError: there is no such key here.
        :raises DamagedObject: it is not what that key has wrapped.
        """
        key = next((key for key in self.keys if key.name == name), None)
        if key is None:
            raise StoreError(
                "none of the keys at hand opens this",
                where=where,
                why=f"it is wrapped by {name}; here are {', '.join(key.name for key in self.keys)}",
                fix=f"add that key to {KEY_FILE} or {KMS_KEY_ID}, behind the newest",
            )
        try:
            return key.unwrap(wrapped, context)
        except ValueError as error:
            raise damaged_key(where, error) from error


def damaged_key(where: str, error: Exception) -> DamagedObject:
    """The error of a wrapped data key that cannot be understood, or does not open.

    :param where: the object that holds it.
    """
    return DamagedObject(
        "a wrapped data key is damaged",
        where=where,
        why=str(error),
        fix="restore this object from a copy: what it opens cannot be read without it",
    )


def configured(environment: Mapping[str, str] = os.environ) -> KeyRing | None:
    """The keys that the environment names; None where it names none, and nothing is encrypted.

    :raises ConfigError: a key cannot be read, or a setting is none.
    """
    files = [name for name in environment.get(KEY_FILE, "").split(os.pathsep) if name]
    in_kms = [name.strip() for name in environment.get(KMS_KEY_ID, "").split(",") if name.strip()]
    plain = environment.get(PLAIN, "") or "refuse"
    if plain not in ("refuse", "read"):
        raise ConfigError(f"there is no such setting: {plain!r}", where=PLAIN, fix="use refuse or read")
    keys: list[KeyEncryptionKey] = []
    if in_kms:
        from .kms import KmsKey  # boto3 costs a third of a second, which key files need not pay

        keys += [KmsKey(name) for name in in_kms]
    keys += [FileKey(Path(name)) for name in files]
    return KeyRing(keys, plain == "read") if keys else None
