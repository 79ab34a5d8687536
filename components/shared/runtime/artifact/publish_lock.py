"""Publishing into a store that can only write single objects: lock, upload, manifest last.

1. `forge.lock` is put if absent and holds the content digest. Another digest in it: the race is lost. The
   same digest: an earlier try of ours, or an equal writer, and going on does no harm.
2. Files are uploaded in parallel, then counted in the listing.
3. The manifest is put if absent: from this moment, and not before, the artifact exists. The lock is removed.

A writer that dies leaves its lock. The same content may be published over it; all else is refused with its owner.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ArtifactError, LostRace, MissingKey
from ..store.interface import Store
from .manifest import MANIFEST, Manifest, decode

LOCK = "forge.lock"


def publish(staging: Path, manifest: Manifest, store: Store) -> None:
    """Publish the sealed artifact in `staging` at the root of `store`; a success where it is there already.

    :raises LostRace: another content is published there, or its writer holds the lock.
    :raises ArtifactError: the target holds files of something else.
    """
    if not published(manifest, store):
        newly_locked = _acquire(manifest, store)
        try:
            published_meanwhile = published(manifest, store)
            if not published_meanwhile:
                _refuse_foreign_files(manifest, store)
        except ArtifactError:
            if newly_locked:
                store.delete(LOCK)
            raise
        if not published_meanwhile:
            store.upload(staging, names=manifest.files)
            _verify_sizes(manifest, store)
            if not store.put_if_absent(MANIFEST, (staging / MANIFEST).read_bytes()):
                published(manifest, store)
    if _owner(store).get("digest") == manifest.digest:
        store.delete(LOCK)


def published(manifest: Manifest, store: Store) -> bool:
    """Whether this very content is published, and whole, in `store`.

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
    _verify_sizes(manifest, store)
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
    except (ValueError, AttributeError) as error:
        raise ArtifactError(
            "the lock on this target is not one of ours",
            where=store.address(LOCK),
            why=str(error),
            fix=f"if nothing writes there, delete everything below {store.uri}/ and publish again",
        ) from error


def _refuse_foreign_files(manifest: Manifest, store: Store) -> None:
    files = manifest.files
    foreign = [
        stored.key
        for stored in store.list()
        if stored.key not in (LOCK, MANIFEST)
        and (stored.key not in files or stored.bytes != files[stored.key]["bytes"])
    ]
    if foreign:
        raise ArtifactError(
            "the target holds files that are not part of the artifact",
            where=store.uri,
            why=", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""),
            fix="publish to an empty target, or delete them first",
        )


def _verify_sizes(manifest: Manifest, store: Store) -> None:
    sizes = {stored.key: stored.bytes for stored in store.list()}
    for name, entry in manifest.files.items():
        if sizes.get(name) != entry["bytes"]:
            raise ArtifactError(
                "a published file is not whole",
                where=store.address(name),
                why=f"{sizes.get(name, 0)} of {entry['bytes']} bytes are there",
                fix="delete the artifact there and publish it again",
            )
