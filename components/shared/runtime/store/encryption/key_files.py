"""A key-encryption key in a file: 32 random bytes, and nothing else.

    head -c 32 /dev/urandom > key; chmod 600 key

Data keys are wrapped by AES-256-GCM, bound to their own id.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...errors import ConfigError
from .streaming import KEY

NONCE = 12


class FileKey:
    """The key in a file.

    :raises ConfigError: the file cannot be read, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        try:
            key = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                "the encryption key cannot be read",
                where=str(path),
                why=error.strerror or str(error),
                fix="correct FORGE_ENCRYPTION_KEY_FILE, or give this process the right to read the file",
            ) from error
        if len(key) != KEY:
            raise ConfigError(
                "this is no encryption key",
                where=str(path),
                why=f"it has {len(key)} bytes, and a key has exactly {KEY}",
                fix=f"make one: head -c {KEY} /dev/urandom > {path}",
            )
        self.name = f"file:{hashlib.sha256(key).hexdigest()[:16]}"
        self._cipher = AESGCM(key)

    def new(self, context: str) -> tuple[bytes, bytes]:
        """A new data key, plain and wrapped."""
        key = os.urandom(KEY)
        return key, self.wrap(key, context)

    def wrap(self, key: bytes, context: str) -> bytes:
        """A data key, encrypted."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, key, context.encode())

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The data key.

        :raises ValueError: it was not wrapped by this key, or for another context.
        """
        try:
            return self._cipher.decrypt(wrapped[:NONCE], wrapped[NONCE:], context.encode())
        except InvalidTag:
            raise ValueError("it is not what this key has wrapped") from None
