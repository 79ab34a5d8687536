"""What an address names: the store behind it."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import StoreError
from .folder import FolderStore
from .interface import MULTIPART_BYTES, Store

SCHEMES = ("s3", "minio")
"""Both are S3: minio:// is what Kubeflow Pipelines calls the server that AWS_ENDPOINT_URL names."""


def open_store(uri: str, *, multipart_bytes: int = MULTIPART_BYTES) -> Store:
    """The store at `s3://bucket/prefix`, `minio://bucket/prefix` or a folder, which is made when it is not there.

    :raises StoreError: an unknown scheme, no such bucket, no credentials, an endpoint that does not answer.
    """
    scheme = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None:
        return FolderStore(Path(uri))
    if scheme[1] not in SCHEMES:
        raise StoreError(
            f"no store speaks {scheme[1]}://",
            where=uri,
            fix="give s3://bucket/prefix, minio://bucket/prefix or a folder",
        )
    from .s3 import S3Store  # boto3 costs a third of a second, which a folder need not pay

    return S3Store(uri, multipart_bytes=multipart_bytes)
