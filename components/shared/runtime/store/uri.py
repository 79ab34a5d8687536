"""What an address names: the store behind it."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import StoreError
from .folder import FolderStore
from .interface import MULTIPART_BYTES, Store

SCHEMES = ("s3", "minio")
"""Both are S3: minio:// is what Kubeflow Pipelines calls the server that AWS_ENDPOINT_URL names."""

FOLDER = "file"
"""file:///path is a folder that is used as a bucket is: through the store alone, never as files in place."""


def open_store(uri: str, *, multipart_bytes: int = MULTIPART_BYTES) -> Store:
    """The store at `s3://bucket/prefix`, `minio://bucket/prefix`, `file:///folder`, or a folder of files in place.

    A folder is made when it is not there. Where the environment names an encryption key (encryption/key_ring.py), what
    a store holds is ciphertext, but for a folder of files in place, which phases read without a store.

    :raises StoreError: an unknown scheme, no such bucket, no credentials, an endpoint that does not answer.
    :raises ConfigError: the encryption key cannot be read.
    """
    scheme = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None:
        return FolderStore(Path(uri))
    store = _bucket(uri, scheme[1], multipart_bytes)
    from .encryption.key_ring import configured  # and cryptography, where there is something to encrypt

    if ring := configured():
        from .encryption.encrypted import EncryptedStore

        return EncryptedStore(store, ring)
    return store


def _bucket(uri: str, scheme: str, multipart_bytes: int) -> Store:
    """The store at an address with a scheme, as it is without encryption."""
    if scheme == FOLDER and uri.startswith(f"{FOLDER}:///"):
        return FolderStore(Path(uri.removeprefix(f"{FOLDER}://")), uri.rstrip("/"))
    if scheme not in SCHEMES:
        raise StoreError(
            f"no store speaks {scheme}://",
            where=uri,
            fix="give s3://bucket/prefix, minio://bucket/prefix, file:///folder or a folder",
        )
    from .s3 import S3Store  # boto3 costs a third of a second, which a folder need not pay

    return S3Store(uri, multipart_bytes=multipart_bytes)
