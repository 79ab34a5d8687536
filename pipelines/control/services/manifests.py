"""The manifests of models, wherever they lie: read once, checked in full, and then kept by the caches."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact.manifest import MANIFEST, Manifest, decode
from components.shared.runtime.errors import ArtifactError, MissingKey
from components.shared.runtime.store.uri import open_store

from ..cache.key import Key
from ..context import Control

LARGEST = 64 << 20
"""Bytes of a manifest: a hundred thousand tensors take a quarter of it."""

LARGEST_CONFIG = 16 << 20
"""Bytes of a config.json."""


def read_bounded(address: str, name: str, limit: int) -> bytes:
    """A file of an artifact, where it is a file and not larger than `limit`. Blocks.

    :raises MissingKey: there is none.
    :raises ArtifactError: it is larger, or no file.
    :raises StoreError: the store cannot be reached.
    """
    where = f"{address}/{name}"
    if "://" not in address:
        path = Path(address, name)
        if not path.exists():
            raise MissingKey("the artifact has gone", where=where, fix="its run was removed: import it again")
        if path.is_symlink() or not path.is_file():
            raise ArtifactError("this is no file of its own", where=where, fix="put the file itself there")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    else:
        store = open_store(address)
        sizes = {entry.key: entry.bytes for entry in store.list(name)}
        if name not in sizes:
            raise MissingKey("the artifact has gone", where=where, fix="somebody has deleted it")
        data = store.get(name) if sizes[name] <= limit else b" " * (limit + 1)
    if len(data) > limit:
        raise ArtifactError(
            "the file is larger than any that we write", where=where, why=f"more than {limit:,} bytes",
            fix="do not use this artifact",
        )  # fmt: skip
    return data


def read_manifest(address: str) -> Manifest:
    """The manifest at an address, checked in full. Blocks.

    :raises MissingKey: there is none.
    :raises ArtifactError: it is damaged.
    :raises StoreError: the store cannot be reached.
    """
    return decode(read_bounded(address, MANIFEST, LARGEST), f"{address}/{MANIFEST}")


def require_digest(manifest: Manifest, digest: str, address: str) -> Manifest:
    """The manifest, where it is that of the model that the catalogue has there.

    :raises ArtifactError: another model lies there now.
    """
    if manifest.digest != digest:
        raise ArtifactError(
            "another model lies in this place now", where=address, why=f"it is {manifest.digest[:12]}",
            fix="import it again",
        )  # fmt: skip
    return manifest


async def head_of(control: Control, digest: str, address: str) -> dict[str, Any]:
    """A model's manifest as plain JSON, but for its tensors, of which there may be many; `tensor_count` says how many.

    :raises ForgeError: as `read_manifest` and `require_digest`.
    """

    def read() -> dict[str, Any]:
        manifest = require_digest(read_manifest(address), digest, address)
        content = asdict(manifest)
        tensors = content.pop("tensors")
        stored = sum(entry["bytes"] for entry in tensors.values())
        return {**content, "tensor_count": len(tensors), "tensor_bytes": stored}

    async def compute() -> dict[str, Any]:
        return await asyncio.to_thread(read)

    head: dict[str, Any] = await control.cache.json(Key(digest, "head"), compute)
    return head
