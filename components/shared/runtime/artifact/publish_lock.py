"""Publishing into a store that can only write single objects: claim, upload, manifest last.

1. `forge.claim` is put if absent and holds the content digest. Another digest under it: the race is lost. The
   same digest: an earlier try of ours, or an equal writer, and going on does no harm.
2. Files are uploaded in parallel, then counted in the listing.
3. The manifest is put if absent: from this moment, and not before, the artifact exists. The claim is removed.

A writer that dies leaves its claim. The same content may be published over it; all else is told whose it is.
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

CLAIM = "forge.claim"


def publish(staging: Path, manifest: Manifest, store: Store) -> None:
    """Publish the sealed artifact in `staging` at the root of `store`; a success where it is there already.

    :raises LostRace: another content is published there, or its writer holds the claim.
    :raises ArtifactError: the place holds files of something else.
    """
    if not published(manifest, store):
        first = _claim(manifest, store)
        try:
            late = published(manifest, store)
            if not late:
                _refuse_strangers(manifest, store)
        except ArtifactError:
            if first:
                store.delete(CLAIM)
            raise
        if not late:
            store.upload(staging, names=manifest.files)
            _count(manifest, store)
            if not store.put_if_absent(MANIFEST, (staging / MANIFEST).read_bytes()):
                published(manifest, store)
    if _holder(store).get("digest") == manifest.digest:
        store.delete(CLAIM)


def published(manifest: Manifest, store: Store) -> bool:
    """Whether this very content is published, and whole, in `store`.

    :raises LostRace: another content is.
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
    _count(manifest, store)
    return True


def _claim(manifest: Manifest, store: Store) -> bool:
    """Claim the store for this content: True when we are the first, False when it was there already."""
    claim = {
        "digest": manifest.digest,
        "phase": manifest.phase,
        "writer": f"{socket.gethostname()}, process {os.getpid()}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    while not store.put_if_absent(CLAIM, json.dumps(claim, indent=1).encode()):
        holder = _holder(store)
        if published(manifest, store) or holder.get("digest") == manifest.digest:
            return False
        if holder:
            raise LostRace(
                "another writer has claimed this target",
                where=store.address(CLAIM),
                why=f"{holder.get('writer')} since {holder.get('time')}, with digest {holder.get('digest')}",
                fix=f"wait for it; if it is dead, delete everything below {store.uri}/ and publish again",
            )
    return True


def _holder(store: Store) -> dict[str, str]:
    """What the claim says, empty where there is none."""
    try:
        text = store.get(CLAIM)
    except MissingKey:
        return {}
    try:
        return {str(key): str(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise ArtifactError(
            "the claim on this target is not one of ours",
            where=store.address(CLAIM),
            why=str(error),
            fix=f"if nothing writes there, delete everything below {store.uri}/ and publish again",
        ) from error


def _refuse_strangers(manifest: Manifest, store: Store) -> None:
    files = manifest.files
    strangers = [
        entry.key
        for entry in store.list()
        if entry.key not in (CLAIM, MANIFEST)
        and (entry.key not in files or entry.bytes != files[entry.key]["bytes"])
    ]
    if strangers:
        raise ArtifactError(
            "the target holds files that are not part of the artifact",
            where=store.uri,
            why=", ".join(strangers[:5]) + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""),
            fix="publish to an empty place, or delete them first",
        )


def _count(manifest: Manifest, store: Store) -> None:
    stored = {entry.key: entry.bytes for entry in store.list()}
    for name, entry in manifest.files.items():
        if stored.get(name) != entry["bytes"]:
            raise ArtifactError(
                "a published file is not whole",
                where=store.address(name),
                why=f"{stored.get(name, 0)} of {entry['bytes']} bytes are there",
                fix="delete the artifact there and publish it again",
            )
