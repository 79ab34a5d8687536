"""A file of a model, by its name in the manifest: a name that is not there leads nowhere, and none is joined to a path."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.store.interface import is_safe_name
from components.shared.runtime.store.s3 import S3Store
from components.shared.runtime.store.uri import open_store

from ..context import Control
from ..errors import not_found
from .catalogue import find
from .manifests import head_of

LINK_SECONDS = 300
"""For which a signed link leads to the file."""


@dataclass(frozen=True)
class ArtifactFile:
    """Where a file's bytes are to be had.

    :param path: on this machine; None where a store has it.
    :param link: signed, into a store; empty where it is on this machine.
    """

    name: str
    sha256: str
    path: Path | None = None
    link: str = ""


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
        return ArtifactFile(name, sha256, link=await asyncio.to_thread(_link, found.address, name))
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


def _link(address: str, name: str) -> str:
    store = open_store(address)
    assert isinstance(store, S3Store)  # the only kind with "://"
    where = {"Bucket": store.bucket, "Key": store.prefix + name}
    link: str = store.client.generate_presigned_url("get_object", Params=where, ExpiresIn=LINK_SECONDS)
    return link
