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
import random
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as aws
from typing_extensions import override

from ..errors import DamagedObject, MissingKey, StoreError
from .interface import MULTIPART_BYTES, PARTIAL, TRANSFERS, Store, StoredObject, is_safe_name
from .s3_client import ATTEMPTS, connect, endpoint, server_side_encryption
from .s3_errors import BROKEN, GARBLED, code_of, translate

T = TypeVar("T")
SHA256 = "sha256"
WRITER = "writer"


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
        self.encryption = server_side_encryption()
        self._connecting = threading.Lock()
        self._checksums = True
        with self._translated_errors():
            self.client: Any = connect(checksums=True)
            self.client.head_bucket(Bucket=self.bucket)

    @override
    def get(self, key: str) -> bytes:
        def whole() -> bytes | None:
            answer = self.client.get_object(**self._location(key))
            data: bytes = answer["Body"].read()
            return data if _is_whole(answer, data) else None

        return self._received(key, whole)

    @override
    def get_range(self, key: str, start: int, length: int) -> bytes:
        if not length:
            return b""

        def whole() -> bytes | None:
            try:
                answer = self.client.get_object(
                    **self._location(key), Range=f"bytes={start}-{start + length - 1}"
                )
            except aws.ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return b""  # it begins behind the end
                raise
            data: bytes = answer["Body"].read()
            return data if len(data) == int(answer["ContentLength"]) and "ETag" in answer else None

        return self._received(key, whole)

    @override
    def fetch(self, key: str, path: Path) -> None:
        with self._translated_errors(key):
            path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"

        def whole() -> Path | None:
            head = self.client.head_object(**self._location(key))
            self.client.download_file(self.bucket, self._key(key), str(partial), Config=self.transfer)
            return partial.replace(path) if _is_whole(head, partial) else None

        try:
            self._received(key, whole)
        finally:
            partial.unlink(missing_ok=True)

    @override
    def sha256(self, key: str) -> str:
        last = ""

        def whole() -> str | None:
            nonlocal last
            answer, digest = self.client.get_object(**self._location(key)), hashlib.sha256()
            for chunk in answer["Body"].iter_chunks(2**20):
                digest.update(chunk)
            last = digest.hexdigest()
            return last if last == answer["Metadata"].get(SHA256, last) else None

        try:
            return self._received(key, whole)
        except DamagedObject:
            return last  # what is there, whatever it says of itself

    def _received(self, key: str, whole: Callable[[], T | None]) -> T:
        """What `whole` gives, asked again where it is not whole; botocore asks again only until an answer begins.

        :raises DamagedObject: it never is.
        """
        broken: BaseException | None = None
        for _ in range(ATTEMPTS):
            with self._translated_errors(key):
                try:
                    if (received := whole()) is not None:
                        return received
                    broken = None
                except GARBLED:
                    broken = None
                except BROKEN as error:
                    broken = error
        if broken is not None:
            raise translate(broken, self.address(key), bucket=False) from broken
        raise DamagedObject(
            "an object does not arrive as it was stored",
            where=self.address(key),
            why=f"its checksum was wrong {ATTEMPTS} times",
            fix="check the network and the store; write the object again",
            transient=True,
        )

    @override
    def put(self, key: str, data: bytes | Path) -> None:
        with self._translated_errors(key):
            metadata = {SHA256: _digest(data)}

        def write() -> None:
            if isinstance(data, Path):
                extra = {"Metadata": metadata, **self.encryption}
                self.client.upload_file(
                    str(data), self.bucket, self._key(key), ExtraArgs=extra, Config=self.transfer
                )
            else:
                self.client.put_object(**self._location(key), Body=data, Metadata=metadata, **self.encryption)

        with self._translated_errors(key):
            self._written(write)

    @override
    def put_if_absent(self, key: str, data: bytes | Path) -> bool:
        with self._translated_errors(key):
            body = data.read_bytes() if isinstance(data, Path) else data
        metadata = {SHA256: _digest(body), WRITER: uuid.uuid4().hex}
        for attempt in range(ATTEMPTS):
            with self._translated_errors(key):
                if self._written(lambda: self._put_once(key, body, metadata)):
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
            self.client.put_object(
                **self._location(key), Body=body, IfNoneMatch="*", Metadata=metadata, **self.encryption
            )
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

    def _written(self, write: Callable[[], T]) -> T:
        """Do a write; once more, and from then on, without the checksums that some servers do not know."""
        client = self.client
        try:
            return write()
        except (aws.ClientError, Boto3Error) as error:
            cause = error if isinstance(error, aws.ClientError) else error.__context__
            if not isinstance(cause, aws.ClientError) or code_of(cause) != "NotImplemented":
                raise
            with self._connecting:
                if client is self.client:
                    if not self._checksums:
                        raise
                    self._checksums = False
                    self.client = connect(checksums=False)
                    print(
                        f"{self.uri}: the server knows no x-amz-checksum headers; writing goes on without them "
                        "(AWS_REQUEST_CHECKSUM_CALCULATION=when_required), what is read is checked by its SHA-256",
                        file=sys.stderr,
                        flush=True,
                    )
            return write()

    @contextlib.contextmanager
    def _translated_errors(self, key: str = "") -> Iterator[None]:
        """Turn boto's errors into ours. `key` is empty where the bucket is meant."""
        try:
            yield
        except Boto3Error as error:  # s3transfer's envelope around the error of a request
            raise translate(error.__context__ or error, self.address(key), bucket=not key) from error
        except (aws.ClientError, aws.BotoCoreError, OSError, ValueError) as error:
            raise translate(error, self.address(key), bucket=not key) from error


def _digest(data: bytes | Path, algorithm: str = SHA256) -> str:
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    return hashlib.new(algorithm, data).hexdigest()


def _is_whole(answer: dict[str, Any], data: bytes | Path) -> bool:
    """Whether `data` is what was stored: by our SHA-256, else by the MD5 that is a one-part object's ETag.

    An answer without an ETag is none of S3's: a login page, mostly, of something in between.
    """
    if sha256 := answer["Metadata"].get(SHA256):
        return _digest(data) == str(sha256)
    if "ETag" not in answer:
        return False
    tag = str(answer["ETag"]).strip('"')
    if re.fullmatch("[0-9a-f]{32}", tag) and answer.get("ServerSideEncryption") in (None, "AES256"):
        return _digest(data, "md5") == tag
    return (data.stat().st_size if isinstance(data, Path) else len(data)) == int(answer["ContentLength"])
