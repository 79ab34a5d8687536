"""Publishing into a store that can only write single objects: lock, upload, read back, manifest last.

1. `forge.lock` is put if absent and holds the content digest. Another digest in it: the race is lost. The
   same digest: an earlier try of ours, or an equal writer, and going on does no harm: what is there of the
   content stays, and what is not whole is written again.
2. Files are uploaded in parallel, then read back: their SHA-256 must be the manifest's.
3. The manifest is put if absent: from this moment, and not before, the artifact exists. The lock is removed.

A writer that dies leaves its lock. The same content may be published over it; all else is refused with its owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ArtifactError, LostRace, MissingKey, StoreError
from ..store.interface import TRANSFERS, Store
from .manifest import MANIFEST, Manifest, decode

LOCK = "forge.lock"


def publish(staging: Path, manifest: Manifest, store: Store) -> None:
    """Publish the sealed artifact in `staging` at the root of `store`; a success where it is there already.

    :raises LostRace: another content is published there, or its writer holds the lock.
    :raises ArtifactError: the target holds files of something else, or does not keep what was written.
    """
    try:
        if not published(manifest, store):
            _upload(staging, manifest, store)
    except MissingKey:  # an equal writer was first, and has swept what others had begun
        if not published(manifest, store):
            raise
    with contextlib.suppress(StoreError):  # the artifact is whole: the phase tries once more, and says so
        release(manifest, store)


def release(manifest: Manifest, store: Store) -> None:
    """Remove the lock of this content, which is published: a writer that died, or could not delete, has left it.

    :raises StoreError: it cannot be removed.
    """
    if _owner(store).get("digest") == manifest.digest:
        store.sweep()
        store.delete(LOCK)


def _upload(staging: Path, manifest: Manifest, store: Store) -> None:
    newly_locked = _acquire(manifest, store)
    try:
        if published(manifest, store):  # meanwhile
            return
        sizes = _sizes(store)
        damaged = _not_whole(manifest, store, sizes)
        _refuse_foreign_files(manifest, store, sizes, damaged if newly_locked else ())
    except ArtifactError:
        if newly_locked:
            store.delete(LOCK)
        raise
    store.upload(staging, names=damaged)
    _require_whole(manifest, store)
    if not store.put_if_absent(MANIFEST, (staging / MANIFEST).read_bytes()):
        published(manifest, store)


def published(manifest: Manifest, store: Store) -> bool:
    """Whether this very content is published, and whole, in `store`: every byte of it is read.

    :raises LostRace: another content is.
    :raises ArtifactError: the manifest there is damaged, or a file of it is not whole.
    """
    try:
        other = decode(store.get(MANIFEST), store.address(MANIFEST))
    except MissingKey:
        return False
    if other.digest != manifest.digest:
        raise LostRace(
            "another artifact is published here",
            where=store.uri,
            why=f"its digest is {other.digest}, ours is {manifest.digest}",
            fix="publish to another target, or delete that artifact first",
        )
    _require_whole(manifest, store)
    return True


def _acquire(manifest: Manifest, store: Store) -> bool:
    """Lock the store for this content: True for the first, False where lock or artifact are there already."""
    lock = {
        "digest": manifest.digest,
        "phase": manifest.phase,
        "writer": f"{socket.gethostname()}, process {os.getpid()}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    while not store.put_if_absent(LOCK, json.dumps(lock, indent=1).encode()):
        owner = _owner(store)
        if published(manifest, store) or owner.get("digest") == manifest.digest:
            return False
        if owner:
            raise LostRace(
                "another writer has locked this target",
                where=store.address(LOCK),
                why=f"{owner.get('writer')} since {owner.get('time')}, with digest {owner.get('digest')}",
                fix=f"wait for it; if it is dead, delete everything below {store.uri}/ and publish again",
            )
    return True


def _owner(store: Store) -> dict[str, str]:
    """What the lock holds: digest, phase, writer, time; empty where there is none."""
    try:
        text = store.get(LOCK)
    except MissingKey:
        return {}
    try:
        return {str(key): str(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            "the lock on this target is not one of ours",
            where=store.address(LOCK),
            why=str(error),
            fix=f"if nothing writes there, delete everything below {store.uri}/ and publish again",
        ) from error


def is_lock_of(text: bytes, digest: str) -> bool:
    """Whether this is the lock of a publication of this very content."""
    try:
        return bool(json.loads(text)["digest"] == digest)
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def _sizes(store: Store) -> dict[str, int]:
    return {stored.key: stored.bytes for stored in store.list()}


def _refuse_foreign_files(
    manifest: Manifest, store: Store, sizes: Mapping[str, int], damaged: Collection[str]
) -> None:
    """Refuse what is no part of the content, and what is called like a part and is none.

    :param sizes: of all that the store holds.
    :param damaged: names of the manifest under which nothing may be that is not whole.
    """
    foreign = [
        name
        for name in sizes
        if name not in (LOCK, MANIFEST) and (name not in manifest.files or name in damaged)
    ]
    if foreign:
        raise ArtifactError(
            "the target holds files that are not part of the artifact",
            where=store.uri,
            why=", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""),
            fix="publish to an empty target, or delete them first",
        )


def _not_whole(manifest: Manifest, store: Store, sizes: Mapping[str, int]) -> dict[str, str]:
    """The files of the manifest that the store does not hold as they are, each with what is there instead."""
    wrong: dict[str, str] = {}
    right_size: list[str] = []
    for name, entry in manifest.files.items():
        if sizes.get(name) == entry["bytes"]:
            right_size.append(name)
        else:
            wrong[name] = f"{sizes.get(name, 0)} of {entry['bytes']} bytes are there"
    with ThreadPoolExecutor(TRANSFERS) as pool:
        for name, digest in zip(right_size, pool.map(store.sha256, right_size), strict=True):
            if digest != manifest.files[name]["sha256"]:
                wrong[name] = f"its SHA-256 is {digest}, not {manifest.files[name]['sha256']}"
    return wrong


def _require_whole(manifest: Manifest, store: Store) -> None:
    for name, why in sorted(_not_whole(manifest, store, _sizes(store)).items()):
        raise ArtifactError(
            "a published file is not whole",
            where=store.address(name),
            why=why,
            fix="delete the artifact there and publish it again",
        )
