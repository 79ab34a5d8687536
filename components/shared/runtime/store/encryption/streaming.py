"""Tink's streaming format AES256-GCM-HKDF with segments of 1 MiB and SHA-256, in terms of `cryptography`.

    header    1 byte: its length (40) · 32 bytes of salt · 7 bytes of nonce prefix
    segment   AES-256-GCM of up to 1 MiB less its tag of 16 bytes (the first one less the header, too)

The key of a file is HKDF-SHA256(data key, salt, associated data); the nonce of a segment is the prefix, its number and
whether it is the last. So no byte can be changed, no segment moved to another place or another file, and no end cut
off unseen; and any part of a file can be read by itself. Tink reads what is written here, and the other way round:
https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY = 32
"""Bytes of a key: AES-256."""

SEGMENT = 2**20
"""Bytes of a segment of ciphertext, its tag included; the first one's with the header."""

TAG = 16
HEADER = 1 + KEY + 7


class NotAuthentic(ValueError):
    """The ciphertext is not what was written under this key for this name: changed, cut off, or another file's."""


class Segments:
    """The segments of one file.

    :param key: the data key, 32 bytes.
    :param associated: what the file is bound to; not stored, and the same for writing and reading.
    :param header: the file's first 40 bytes; none for a new file.
    :raises NotAuthentic: this is no header of this format.
    """

    def __init__(self, key: bytes, associated: bytes, header: bytes | None = None) -> None:
        self.header = bytes([HEADER]) + os.urandom(HEADER - 1) if header is None else header
        if len(self.header) != HEADER or self.header[0] != HEADER:
            raise NotAuthentic("it does not begin as a file of this format does")
        derived = HKDF(hashes.SHA256(), KEY, salt=self.header[1 : 1 + KEY], info=associated).derive(key)
        self._cipher = AESGCM(derived)
        self._prefix = self.header[1 + KEY :]

    def seal(self, number: int, last: bool, plain: bytes | memoryview) -> bytes:
        """The ciphertext of a segment."""
        return self._cipher.encrypt(self._nonce(number, last), plain, None)

    def open(self, number: int, last: bool, sealed: bytes | memoryview) -> bytes:
        """The plain bytes of a segment.

        :raises NotAuthentic: it is not this file's segment of this number.
        """
        try:
            return self._cipher.decrypt(self._nonce(number, last), sealed, None)
        except InvalidTag:
            raise NotAuthentic(
                f"segment {number} is not what was written" + (", or the file is cut off" if last else "")
            ) from None

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + bytes([last])


def sealed_bytes(plain: int) -> int:
    """The size of the ciphertext of so many bytes."""
    segments = max(1, -(-(plain + HEADER) // (SEGMENT - TAG)))
    return HEADER + plain + TAG * segments


def plain_bytes(sealed: int) -> int:
    """The size of what a ciphertext of so many bytes holds.

    :raises NotAuthentic: no ciphertext has this size.
    """
    segments = -(-sealed // SEGMENT)
    plain = sealed - HEADER - TAG * segments
    if plain < 0 or sealed_bytes(plain) != sealed:
        raise NotAuthentic(f"no file of this format has {sealed} bytes")
    return plain


def encrypt(key: bytes, associated: bytes, source: BinaryIO, target: BinaryIO) -> None:
    """Write the ciphertext of all that `source` still has; memory for two segments is enough."""
    segments = Segments(key, associated)
    target.write(segments.header)
    number, plain = 0, source.read(SEGMENT - TAG - HEADER)
    while following := source.read(SEGMENT - TAG):
        target.write(segments.seal(number, False, plain))
        number, plain = number + 1, following
    target.write(segments.seal(number, True, plain))


def decrypt(key: bytes, associated: bytes, source: BinaryIO) -> Iterator[bytes]:
    """The plain bytes of a ciphertext, segment after segment. What came before an error is authentic, but not the whole.

    :raises NotAuthentic: a segment was changed, moved or cut off, or the key or the name is another.
    """
    segments = Segments(key, associated, source.read(HEADER))
    number, sealed = 0, source.read(SEGMENT - HEADER)
    while following := source.read(SEGMENT):
        yield segments.open(number, False, sealed)
        number, sealed = number + 1, following
    yield segments.open(number, True, sealed)


def encrypted(key: bytes, associated: bytes, plain: bytes) -> bytes:
    """The ciphertext of some bytes."""
    target = io.BytesIO()
    encrypt(key, associated, io.BytesIO(plain), target)
    return target.getvalue()


def decrypted(key: bytes, associated: bytes, sealed: bytes) -> bytes:
    """The plain bytes of a ciphertext.

    :raises NotAuthentic: it is not what was written.
    """
    return b"".join(decrypt(key, associated, io.BytesIO(sealed)))


def decrypt_in_place(key: bytes, associated: bytes, path: Path, skip: int) -> None:
    """Turn a file of ciphertext into the plain one: each segment's place comes before the one it is read from.

    :param skip: bytes before the ciphertext.
    :raises NotAuthentic: it is not what was written; the file is of no use then.
    """
    with path.open("rb") as source, path.open("r+b") as target:
        source.seek(skip)
        for plain in decrypt(key, associated, source):
            target.write(plain)
        target.truncate()


def sha256(key: bytes, associated: bytes, source: BinaryIO) -> str:
    """The SHA-256 of the plain bytes of a ciphertext.

    :raises NotAuthentic: it is not what was written.
    """
    digest = hashlib.sha256()
    for plain in decrypt(key, associated, source):
        digest.update(plain)
    return digest.hexdigest()


def span(start: int, length: int) -> tuple[int, int, int]:
    """Where the plain bytes from `start` on lie: the first segment, the one after the last, and the bytes to skip there."""
    per = SEGMENT - TAG
    first = (start + HEADER) // per
    after = (start + HEADER + max(length, 1) - 1) // per + 1
    return first, after, start + HEADER - first * per - (HEADER if first == 0 else 0)
