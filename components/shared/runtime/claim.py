"""Publishing into a store that can only write single objects: claim, upload, manifest last.

1. `forge.claim` is put if absent; it holds the content digest. Another digest under it: the race is lost. The same
   digest: an earlier try of ours, or an equal writer, and going on does no harm.
2. Files are uploaded in parallel, then counted in the listing.
3. The manifest is put if absent: from this moment, and not before, the artifact exists. The claim is removed.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from .errors import ArtifactError, LostRace, MissingKey
from .manifest import MANIFEST, Manifest, decode
from .store import Store

CLAIM = "forge.claim"


def publish(staging: Path, manifest: Manifest, store: Store) -> None:
    """Publish the sealed artifact in `staging` at the root of `store`; returns at once where it is there already.

    :raises LostRace: another content is published there, or its writer holds the claim.
    :raises ArtifactError: the place holds files of something else.
    """
    if not published(manifest, store):
        _refuse_strangers(manifest, store)
        _claim(manifest, store)
        if not published(manifest, store):
            store.upload(staging, names=sorted(manifest.files))
            _count(manifest, store)
            if not store.put_if_absent(MANIFEST, (staging / MANIFEST).read_bytes()):
                published(manifest, store)
    if _holder(store).get("digest") == manifest.digest:
        store.delete(CLAIM)


def published(manifest: Manifest, store: Store) -> bool:
    """Whether this very content is published in `store`. Raises LostRace when another content is."""
    try:
        other = decode(store.get(MANIFEST), store.address(MANIFEST))
    except MissingKey:
        return False
    if other.digest != manifest.digest:
        if _holder(store).get("digest") == manifest.digest:
            store.delete(CLAIM)
        raise LostRace(
            "another artifact is published here",
            where=store.uri,
            why=f"its digest is {other.digest}, ours is {manifest.digest}",
            fix="publish to another target, or delete that artifact first",
        )
    return True


def _refuse_strangers(manifest: Manifest, store: Store) -> None:
    strangers = sorted({entry.key for entry in store.list()} - set(manifest.files) - {CLAIM, MANIFEST})
    if strangers and not _holder(store):
        raise ArtifactError(
            "the target holds files that are not part of the artifact",
            where=store.uri,
            why=", ".join(strangers[:5]) + (" …" if len(strangers) > 5 else ""),
            fix="publish to an empty place, or delete what a writer that died left there",
        )


def _claim(manifest: Manifest, store: Store) -> None:
    claim = {
        "digest": manifest.digest,
        "phase": manifest.phase,
        "writer": f"{socket.gethostname()}, process {os.getpid()}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    while not store.put_if_absent(CLAIM, json.dumps(claim, indent=1).encode()):
        holder = _holder(store)
        if holder.get("digest") == manifest.digest or published(manifest, store):
            return
        if holder:
            raise LostRace(
                "another writer has claimed this target",
                where=store.address(CLAIM),
                why=f"{holder.get('writer')} since {holder.get('time')}, with digest {holder.get('digest')}",
                fix=f"wait for it; if it is dead, delete everything below {store.uri}/ and publish again",
            )


def _holder(store: Store) -> dict[str, str]:
    try:
        claim = json.loads(store.get(CLAIM))
    except MissingKey:
        return {}
    return {str(key): str(value) for key, value in claim.items()}


def _count(manifest: Manifest, store: Store) -> None:
    stored = {entry.key: entry.bytes for entry in store.list()}
    for name, entry in manifest.files.items():
        if stored.get(name) != entry["bytes"]:
            raise ArtifactError(
                "an uploaded file did not arrive whole",
                where=store.address(name),
                why=f"{stored.get(name, 0)} of {entry['bytes']} bytes are there",
                fix="publish again",
            )
