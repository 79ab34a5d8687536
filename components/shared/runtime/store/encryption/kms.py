"""A key-encryption key in AWS KMS, by boto3: it never leaves KMS, and each use of it is in CloudTrail.

AWS_ENDPOINT_URL leads every service of boto3 elsewhere: where it names an S3 server of one's own, give that one as
AWS_ENDPOINT_URL_S3, or KMS as AWS_ENDPOINT_URL_KMS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
from botocore import exceptions as aws

from ...errors import StoreError

CONTEXT = "agent-forge-data-key"
"""The name of the encryption context that a data key's id stands under, for key policies and CloudTrail."""


class KmsKey:
    """A key of KMS.

    :param key_id: its ARN, its id, or an alias.
    """

    def __init__(self, key_id: str) -> None:
        self.name = f"kms:{key_id}"
        self.key_id = key_id
        self._client: Any = None

    def new(self, context: str) -> tuple[bytes, bytes]:
        """A new data key, plain and wrapped.

        :raises StoreError: KMS cannot be reached, or refuses.
        """
        with self._translated_errors():
            answer = self._kms().generate_data_key(
                KeyId=self.key_id, KeySpec="AES_256", EncryptionContext={CONTEXT: context}
            )
        return answer["Plaintext"], answer["CiphertextBlob"]

    def wrap(self, key: bytes, context: str) -> bytes:
        """A data key, encrypted.

        :raises StoreError: KMS cannot be reached, or refuses.
        """
        with self._translated_errors():
            answer = self._kms().encrypt(
                KeyId=self.key_id, Plaintext=key, EncryptionContext={CONTEXT: context}
            )
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The data key. The key's id is sent along: what somebody else's key has wrapped is refused.

        :raises ValueError: it was not wrapped by this key, or for another context.
        :raises StoreError: KMS cannot be reached, or refuses.
        """
        try:
            with self._translated_errors():
                answer = self._kms().decrypt(
                    CiphertextBlob=wrapped, KeyId=self.key_id, EncryptionContext={CONTEXT: context}
                )
        except StoreError as error:
            if isinstance(error.__cause__, aws.ClientError) and error.__cause__.response["Error"]["Code"] in (
                "InvalidCiphertextException",
                "IncorrectKeyException",
            ):
                raise ValueError("it is not what this key has wrapped") from error
            raise
        return bytes(answer["Plaintext"])

    def _kms(self) -> Any:
        self._client = self._client or boto3.session.Session().client("kms")
        return self._client

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (aws.ClientError, aws.BotoCoreError) as error:
            raise StoreError(
                "the key in KMS cannot be used",
                where=self.name,
                why=str(error),
                fix="check FORGE_ENCRYPTION_KMS_KEY_ID, AWS_REGION and the credentials; they need "
                "kms:GenerateDataKey, kms:Encrypt and kms:Decrypt",
                transient=isinstance(error, aws.HTTPClientError),
            ) from error
