"""What boto's errors mean for whoever has to do something about them."""

from __future__ import annotations

from botocore import exceptions as aws
from s3transfer.exceptions import RetriesExceededError

from ..errors import MissingKey, StoreError
from .s3_client import endpoint

BROKEN = (aws.HTTPClientError, aws.IncompleteReadError)
"""What a connection that breaks in the middle of an answer raises."""

GARBLED = aws.FlexibleChecksumError
"""What an answer raises that arrives whole, and is not what its checksum says."""

TRANSIENT = {"InternalError", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown"}
"""Refusals of a server that is overloaded or starting, beside those with status 429 and 500 up."""

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
    **dict.fromkeys(
        (
            "301",
            "400",
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "IllegalLocationConstraintException",
        ),
        "set AWS_REGION to the bucket's region, and check that AWS_ENDPOINT_URL is the store's own address",
    ),
}


def code_of(error: aws.ClientError) -> str:
    """What the server calls it: NoSuchKey, AccessDenied, or a number."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: BaseException, address: str, *, bucket: bool) -> StoreError:
    """Our error for one of boto's.

    :param bucket: the bucket is meant, and no key in it.
    """
    where = f"{address} at {endpoint() or 'Amazon S3'}"
    transient = False
    if isinstance(error, aws.ClientError):
        code = code_of(error)
        if not bucket and code in ("NoSuchKey", "404"):
            return MissingKey("nothing is stored here", where=where)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        transient = code in TRANSIENT or (code not in ADVICE and (status == 429 or status >= 500))
        what = "the bucket does not exist" if code in ("NoSuchBucket", "404") else "the store refuses"
        fix = ADVICE.get(code, "look at the store's own log; try again if it was overloaded")
    elif isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        what, fix = "there are no credentials for the store", CREDENTIALS
    elif isinstance(error, (*BROKEN, GARBLED, aws.ConnectionError, RetriesExceededError, ConnectionError)):
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
