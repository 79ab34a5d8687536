"""A store in a bucket of any S3 server, by boto3 and AWS_ENDPOINT_URL.

Retries (exponential backoff with jitter, on 5xx, throttling and timeouts), checksums in transit, and parallel parts
are botocore's and s3transfer's own. Added here: errors that say what to do, put-if-absent that survives a
retried request, and an end-to-end SHA-256 that travels in the object's metadata.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as aws
from botocore.config import Config

from .errors import MissingKey, StoreError
from .store import MULTIPART_BYTES, Entry, Store, is_safe_name

ATTEMPTS = 6


class S3Store(Store):
    """Everything below `s3://bucket/prefix`."""

    def __init__(self, uri: str, *, multipart_bytes: int = MULTIPART_BYTES) -> None:
        parts = urlsplit(uri)
        self.uri = uri.rstrip("/")
        self.bucket, prefix = parts.netloc, parts.path.strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self.transfer = TransferConfig(
            multipart_threshold=multipart_bytes, multipart_chunksize=multipart_bytes
        )
        retries: dict[str, Any] = {"mode": "standard"}
        if "AWS_MAX_ATTEMPTS" not in os.environ:
            retries["total_max_attempts"] = ATTEMPTS
        with self._explained():
            self.client: Any = boto3.client(
                "s3",
                region_name=os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1")),
                config=Config(
                    s3={"addressing_style": "path"},
                    retries=retries,
                    connect_timeout=10,
                    read_timeout=60,
                    max_pool_connections=64,
                ),
            )
            self.client.head_bucket(Bucket=self.bucket)

    @contextlib.contextmanager
    def _explained(self, key: str = "") -> Iterator[None]:
        where = self.address(key)
        try:
            yield
        except aws.NoCredentialsError as error:
            raise StoreError(
                "no credentials for the object store",
                where=where,
                fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
        except aws.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if key and (code in ("NoSuchKey", "404") or status == 404):
                raise MissingKey("nothing is stored here", where=where) from error
            raise StoreError("the object store refused a request", where=where, why=str(error)) from error
        except (aws.BotoCoreError, OSError) as error:
            raise StoreError("the object store does not answer", where=where, why=str(error)) from error

    def _key(self, key: str) -> str:
        if not is_safe_name(key):
            raise StoreError(f"not a key: {key!r}", where=self.uri, fix="use relative names without '..'")
        return self.prefix + key

    def get(self, key: str) -> bytes:
        with self._explained(key):
            data: bytes = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
            return data

    def put(self, key: str, data: bytes | Path) -> None:
        with self._explained(key):
            if isinstance(data, Path):
                self.client.upload_file(str(data), self.bucket, self._key(key), Config=self.transfer)
            else:
                self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        body = data.read_bytes() if isinstance(data, Path) else data
        writer = uuid.uuid4().hex
        with self._explained(key):
            try:
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=self._key(key),
                    Body=body,
                    IfNoneMatch="*",
                    Metadata={"writer": writer},
                )
            except aws.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                    raise
                # A retried request may meet its own first try, whose answer was lost.
                head = self.client.head_object(Bucket=self.bucket, Key=self._key(key))
                return bool(head["Metadata"].get("writer") == writer)
        return True

    def list(self, prefix: str = "") -> builtins.list[Entry]:
        with self._explained():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            return sorted(
                Entry(item["Key"].removeprefix(self.prefix), item["Size"], item.get("ETag", ""))
                for page in pages
                for item in page.get("Contents", [])
                if not item["Key"].endswith("/")
            )

    def exists(self, key: str) -> bool:
        try:
            with self._explained(key):
                self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        except MissingKey:
            return False
        return True

    def delete(self, key: str) -> None:
        with self._explained(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def fetch(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained(key):
            self.client.download_file(self.bucket, self._key(key), str(path), Config=self.transfer)
