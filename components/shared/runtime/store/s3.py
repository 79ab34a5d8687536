"""A store in a bucket of any S3 server, by boto3 and AWS_ENDPOINT_URL.

`minio://bucket/prefix`, as Kubeflow Pipelines writes addresses in its own object store, is the same at the server
that AWS_ENDPOINT_URL names.

Retries (exponential backoff with jitter, on 5xx, throttling and timeouts), checksums in transit and parallel
parts are botocore's and s3transfer's own. Added here: errors that say what to do; put-if-absent that survives
a retried request; and a SHA-256 in each object's metadata, compared when it comes back.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import os
import random
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as aws
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError
from typing_extensions import override

from ..errors import MissingKey, StoreError
from .interface import MULTIPART_BYTES, PARTIAL, TRANSFERS, Store, StoredObject, is_safe_name

ATTEMPTS = 6
"""Tries of one request, about 15 s in all; the environment's AWS_MAX_ATTEMPTS takes precedence."""

CONNECTION_ERRORS = (aws.HTTPClientError, aws.FlexibleChecksumError)
"""What a connection that breaks, or garbles, in the middle of an answer raises."""

TRANSIENT = {"InternalError", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown"}
"""Refusals of a server that is overloaded or starting, beside those with status 429 and 500 up."""

SHA256 = "sha256"
WRITER = "writer"

CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may read and write this bucket"
ADVICE = {
    "AccessDenied": CREDENTIALS,
    "403": CREDENTIALS,
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "NoSuchBucket": "make the bucket, or correct its name",
    "404": "make the bucket, or correct its name",
    "NotImplemented": "use a store that honours If-None-Match on PUT (Amazon S3, MinIO, Ceph), or a folder",
    "EntityTooLarge": "what is put if absent is a single PUT, of 5 GiB at most",
}


ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def endpoint() -> str:
    """The server's address, "" for Amazon's own."""
    return next(filter(None, map(os.environ.get, ENDPOINT)), "")


def missing_settings(uri: str) -> list[str]:
    """The environment variables without which the store at `uri` cannot be used here; none: it can be tried."""
    missing = [] if endpoint() or not uri.startswith("minio://") else ["AWS_ENDPOINT_URL"]
    try:
        has_credentials = boto3.session.Session().get_credentials() is not None
    except aws.PartialCredentialsError:
        has_credentials = False
    except aws.BotoCoreError:  # configured, and broken: using the store will tell
        has_credentials = True
    return missing if has_credentials else [*missing, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]


class S3Store(Store):
    """Everything below `s3://bucket/prefix`, or minio://. One client, shared by threads.

    :raises StoreError: on opening, where the bucket cannot be reached, or minio:// has no AWS_ENDPOINT_URL.
    """

    def __init__(self, uri: str, *, multipart_bytes: int = MULTIPART_BYTES) -> None:
        self.uri = uri.rstrip("/")
        scheme, _, path = self.uri.partition("://")
        if scheme == "minio" and not endpoint():
            raise StoreError(
                "minio:// names no server by itself",
                where=self.uri,
                why="AWS_ENDPOINT_URL is not set",
                fix="set it to the address of the object store, such as http://seaweedfs.kubeflow:9000",
            )
        self.bucket, _, prefix = path.partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self.transfer = TransferConfig(
            multipart_threshold=multipart_bytes,
            multipart_chunksize=multipart_bytes,
            max_concurrency=TRANSFERS,
        )
        retries: dict[str, Any] = {"mode": "standard"}
        if "AWS_MAX_ATTEMPTS" not in os.environ:
            retries["total_max_attempts"] = ATTEMPTS
        with self._translated_errors():
            session = boto3.session.Session()
            self.client: Any = session.client(
                "s3",
                region_name=os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
                config=Config(
                    s3={"addressing_style": "path"},
                    retries=retries,
                    connect_timeout=10,
                    read_timeout=60,
                    max_pool_connections=TRANSFERS * TRANSFERS,
                ),
            )
            self.client.head_bucket(Bucket=self.bucket)

    @override
    def get(self, key: str) -> bytes:
        for _ in range(ATTEMPTS):
            with self._translated_errors(key):
                answer = self.client.get_object(**self._location(key))
                try:
                    data: bytes = answer["Body"].read()
                except CONNECTION_ERRORS:
                    continue  # botocore retries only until the answer begins
            if _is_whole(answer, data):
                return data
        raise self._damaged(key)

    @override
    def fetch(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            for _ in range(ATTEMPTS):
                with self._translated_errors(key):
                    head = self.client.head_object(**self._location(key))
                    try:
                        self.client.download_file(
                            self.bucket, self._key(key), str(partial), Config=self.transfer
                        )
                    except CONNECTION_ERRORS:
                        continue
                if _is_whole(head, partial):
                    partial.replace(path)
                    return
        finally:
            partial.unlink(missing_ok=True)
        raise self._damaged(key)

    @override
    def put(self, key: str, data: bytes | Path) -> None:
        with self._translated_errors(key):
            metadata = {SHA256: _digest(data)}
            if isinstance(data, Path):
                extra = {"Metadata": metadata}
                self.client.upload_file(
                    str(data), self.bucket, self._key(key), ExtraArgs=extra, Config=self.transfer
                )
            else:
                self.client.put_object(**self._location(key), Body=data, Metadata=metadata)

    @override
    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        body = data.read_bytes() if isinstance(data, Path) else data
        metadata = {SHA256: _digest(body), WRITER: uuid.uuid4().hex}
        for attempt in range(ATTEMPTS):
            with self._translated_errors(key):
                if self._put_once(key, body, metadata):
                    return True
            # A retried request may meet its own first try, whose answer was lost: look whose object it is.
            with contextlib.suppress(MissingKey), self._translated_errors(key):
                head = self.client.head_object(**self._location(key))
                return bool(head["Metadata"].get(WRITER) == metadata[WRITER])
            time.sleep(
                random.random() * 0.1 * 2**attempt
            )  # refused, yet absent: deleted since, or a conflict
        raise StoreError(
            "other writers kept interfering", where=self.address(key), fix="try again", transient=True
        )

    @override
    def list(self, prefix: str = "") -> builtins.list[StoredObject]:
        return sorted(
            StoredObject(item["Key"].removeprefix(self.prefix), item["Size"], item.get("ETag", ""))
            for item in self.objects(prefix)
            if (name := item["Key"].rpartition("/")[2])  # consoles make "folder/" to show an empty folder
            and not name.startswith(PARTIAL)
        )

    def objects(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """All that S3 tells of each object below `prefix`."""
        with self._translated_errors():
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            ):
                yield from page.get("Contents", [])

    @override
    def exists(self, key: str) -> bool:
        try:
            with self._translated_errors(key):
                self.client.head_object(**self._location(key))
        except MissingKey:
            return False
        return True

    @override
    def delete(self, key: str) -> None:
        with self._translated_errors(key):
            self.client.delete_object(**self._location(key))

    def _put_once(self, key: str, body: bytes, metadata: dict[str, str]) -> bool:
        """One conditional PUT. False: an object is there, or another write of it is under way."""
        try:
            self.client.put_object(**self._location(key), Body=body, IfNoneMatch="*", Metadata=metadata)
        except aws.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                return False
            raise
        return True

    def _key(self, key: str) -> str:
        if not is_safe_name(key):
            raise StoreError(f"not a key: {key!r}", where=self.uri, fix="use relative names without '..'")
        return self.prefix + key

    def _location(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _damaged(self, key: str) -> StoreError:
        return StoreError(
            "an object does not arrive as it was stored",
            where=self.address(key),
            why=f"its checksum was wrong, or the connection broke, {ATTEMPTS} times",
            fix="check the network and the store; write the object again",
            transient=True,
        )

    @contextlib.contextmanager
    def _translated_errors(self, key: str = "") -> Iterator[None]:
        """Turn boto's errors into ours. `key` is empty where the bucket is meant."""
        try:
            yield
        except Boto3Error as error:  # s3transfer's envelope around the error of a request
            raise self._translate(error.__context__ or error, key) from error
        except (aws.ClientError, aws.BotoCoreError, OSError, ValueError) as error:
            raise self._translate(error, key) from error

    def _translate(self, error: BaseException, key: str) -> StoreError:
        where = f"{self.address(key)} at {endpoint() or 'Amazon S3'}"
        transient = False
        if isinstance(error, aws.ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            if key and code in ("NoSuchKey", "404"):
                return MissingKey("nothing is stored here", where=where)
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            transient = code in TRANSIENT or (code not in ADVICE and (status == 429 or status >= 500))
            what = "the bucket does not exist" if code in ("NoSuchBucket", "404") else "the store refuses"
            fix = ADVICE.get(code, "look at the store's own log; try again if it was overloaded")
        elif isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
            what, fix = "there are no credentials for the store", CREDENTIALS
        elif isinstance(
            error, (*CONNECTION_ERRORS, aws.ConnectionError, RetriesExceededError, ConnectionError)
        ):
            transient = not isinstance(error, aws.SSLError)
            what, fix = (
                "the store does not answer",
                "check that it runs and that AWS_ENDPOINT_URL is its address",
            )
        elif isinstance(error, OSError):
            what, fix = (
                "a file on this machine is in the way",
                "check its path, its rights and the free space",
            )
        else:
            what, fix = "the store cannot be used", "check its address and the AWS_* settings"
        return StoreError(what, where=where, why=str(error), fix=fix, transient=transient)


def _digest(data: bytes | Path, algorithm: str = SHA256) -> str:
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    return hashlib.new(algorithm, data).hexdigest()


def _is_whole(answer: dict[str, Any], data: bytes | Path) -> bool:
    """Whether `data` is what was stored: by our SHA-256, else by the MD5 that is a one-part object's ETag."""
    if sha256 := answer["Metadata"].get(SHA256):
        return _digest(data) == str(sha256)
    tag = str(answer["ETag"]).strip('"')
    if re.fullmatch("[0-9a-f]{32}", tag) and answer.get("ServerSideEncryption") in (None, "AES256"):
        return _digest(data, "md5") == tag
    return (data.stat().st_size if isinstance(data, Path) else len(data)) == int(answer["ContentLength"])
