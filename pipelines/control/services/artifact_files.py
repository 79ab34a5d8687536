"""A file of a model, by its name in the manifest: a name that is not there leads nowhere, and none is joined to a path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.store.interface import Store, is_safe_name
from components.shared.runtime.store.uri import open_store

from ..context import Control
from ..errors import not_found
from .catalogue import find
from .manifests import head_of

if TYPE_CHECKING:
    from components.shared.runtime.store.s3 import S3Store

PART = 4 << 20
"""Bytes of a file that are held in memory at once on their way out of an encrypted store."""

LINK_SECONDS = 300
"""For which a signed link leads to the file."""


@dataclass(frozen=True)
class ArtifactFile:
    """Where a file's bytes are to be had.

    :param path: on this machine; None where a store has it.
    :param link: signed, into a store; empty where it is on this machine, or no link can give its bytes.
    :param store: that has it, where no link can: it is encrypted there.
    """

    name: str
    sha256: str
    path: Path | None = None
    link: str = ""
    store: Store | None = None

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes of a file that a store has, part after part."""
        assert self.store is not None
        place = 0
        while part := await asyncio.to_thread(self.store.get_range, self.name, place, PART):
            place += len(part)
            yield part


async def artifact_file(control: Control, digest: str, name: str) -> ArtifactFile:
    """A file of a model.

    :raises Refused: there is no such model, or it has no such file.
    :raises ForgeError: its manifest cannot be read, or the file is gone.
    """
    found = await find(control.database, digest)
    head = await head_of(control, digest, found.address)
    entry = head["files"].get(name)
    if name != MANIFEST and (entry is None or not is_safe_name(name)):
        raise not_found("the model has no such file", digest, "GET /models/{digest} names its files")
    sha256 = entry["sha256"] if entry else ""
    if "://" in found.address:
        store = await asyncio.to_thread(open_store, found.address)
        from components.shared.runtime.store.s3 import (
            S3Store,  # and boto3, where an address is not a folder's
        )

        if isinstance(store, S3Store):
            return ArtifactFile(name, sha256, link=await asyncio.to_thread(_link, store, name))
        return ArtifactFile(name, sha256, store=store)
    return ArtifactFile(name, sha256, path=_inside(Path(found.address), name))


def _inside(folder: Path, name: str) -> Path:
    """The path of a file that lies in a folder also once all links are followed.

    :raises ArtifactError: it does not.
    """
    path = folder / name
    real = path.resolve()
    if not real.is_file() or not real.is_relative_to(folder.resolve()):
        raise ArtifactError(
            "the file is not there, or leads out of the artifact",
            where=str(path),
            fix="import the model again",
        )
    return real


def _link(store: S3Store, name: str) -> str:
    where = {"Bucket": store.bucket, "Key": store.prefix + name}
    link: str = store.client.generate_presigned_url("get_object", Params=where, ExpiresIn=LINK_SECONDS)
    return link
