"""The client of an S3 server, as the environment describes the server, and what it must not do by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from ..errors import ConfigError
from .interface import TRANSFERS

ATTEMPTS = 6
"""Tries of one request, about 15 s in all; the environment's AWS_MAX_ATTEMPTS takes precedence."""

SSE, SSE_KEY = "FORGE_S3_SSE", "FORGE_S3_SSE_KMS_KEY_ID"
SSE_KINDS = ("AES256", "aws:kms", "aws:kms:dsse")
"""Encryption by the server itself, whose owner reads everything: SSE-S3, SSE-KMS, and SSE-KMS in two layers."""

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


def server_side_encryption(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What every write asks of the server, as FORGE_S3_SSE and FORGE_S3_SSE_KMS_KEY_ID have it; nothing by default.

    :raises ConfigError: S3 knows no such kind, or a key is given to a kind that takes none.
    """
    kind, key = environment.get(SSE, ""), environment.get(SSE_KEY, "")
    if kind not in ("", *SSE_KINDS):
        raise ConfigError(
            f"S3 has no encryption called {kind!r}", where=SSE, fix=f"use one of {', '.join(SSE_KINDS)}"
        )
    if key and not kind.startswith("aws:kms"):
        raise ConfigError(
            "a key of KMS is given, and the encryption is not by KMS", where=SSE_KEY, fix=f"set {SSE}=aws:kms"
        )
    asked = {"ServerSideEncryption": kind} if kind else {}
    return asked | ({"SSEKMSKeyId": key} if key else {})


def connect(*, checksums: bool) -> Any:
    """A client of boto3.

    :param checksums: with the x-amz-checksum headers that boto3 adds by itself.
    """
    settings: dict[str, Any] = {"retries": {"mode": "standard"}}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        settings["retries"]["total_max_attempts"] = ATTEMPTS
    if not checksums:
        settings |= dict.fromkeys(
            ("request_checksum_calculation", "response_checksum_validation"), "when_required"
        )
    session = boto3.session.Session()
    client = session.client(
        "s3",
        region_name=os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
        config=Config(
            s3={"addressing_style": "path"},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=TRANSFERS * TRANSFERS,
            **settings,
        ),
    )
    client.meta.events.register_first("needs-retry.s3", _refuse_aimless_redirect)
    return client


def _refuse_aimless_redirect(response: Any = None, operation: Any = None, **_: Any) -> None:
    """End where the server sends us elsewhere and does not say to which region: botocore would ask it for ever.

    :raises ClientError: of the code 301.
    """
    status = getattr(response[0], "status_code", 0) if response else 0
    if status in (301, 302, 303, 307, 308):
        answer = response[1]
        told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        if not (told or answer.get("Error", {}).get("Region")):
            why = f"the server answers {status}, and names no region"
            raise aws.ClientError({"Error": {"Code": "301", "Message": why}}, operation.name)
