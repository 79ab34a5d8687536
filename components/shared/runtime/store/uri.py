"""What an address names: the store behind it, and its files on this machine."""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from pathlib import Path

from ..errors import StoreError
from .folder import FolderStore
from .interface import MULTIPART_BYTES, PARTIAL, Store

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


def download(uri: str, into: Path) -> Path:
    """A folder on this machine with the files of `uri`: a folder is itself, a bucket's come below `into`, once a content.

    :raises StoreError: there is no such folder, or the store cannot be read.
    :raises MissingKey: nothing is stored there.
    """
    if "://" not in uri:
        if not Path(uri).is_dir():
            raise StoreError("there is no such folder", where=uri, fix="check the path")
        return Path(uri)
    store = open_store(uri)
    listing = repr((uri, [(stored.key, stored.bytes, stored.tag) for stored in store.list()]))
    name = f"{uri.rstrip('/').rsplit('/', 1)[-1]}-{hashlib.sha256(listing.encode()).hexdigest()[:12]}"
    target = into / name
    if not target.exists():
        partial = into / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            store.download("", partial)
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target
