"""The client of an S3 server, as the environment describes the server, and what it must not do by itself."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from .interface import TRANSFERS

ATTEMPTS = 6
"""Tries of one request, about 15 s in all; the environment's AWS_MAX_ATTEMPTS takes precedence."""

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
