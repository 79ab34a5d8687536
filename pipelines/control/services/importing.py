"""Models that no run of ours has told of: those below a place of the runs' folder or of the store."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from pydantic import BaseModel

from components.shared.runtime.artifact.manifest import MANIFEST, Manifest
from components.shared.runtime.errors import ArtifactError, MissingKey, StoreError
from components.shared.runtime.store.uri import open_store

from ..auth.places import allowed_place
from ..auth.rights import Principal
from ..context import Control
from ..errors import not_found
from .catalogue import Model, find
from .manifests import read_manifest
from .models import register

PLACE = re.compile(r"(?:^|/)(?P<run>[^/]+)/artifacts/(?P<task>.+)/[^/]+$")
MOST = 1000
"""Models that one import takes."""


class Imported(BaseModel):
    """What an import has found.

    :param damaged: what cannot be read, and why.
    :param cut: there are more than one import takes: import the places below.
    """

    models: list[Model]
    damaged: list[str]
    cut: bool


async def import_models(control: Control, address: str, who: Principal) -> Imported:
    """Enter the artifacts at an address, or below it, into the catalogue.

    :raises Refused: the place is none of ours, or there is none.
    :raises StoreError: the store cannot be reached.
    """
    place = allowed_place(control.settings, address)
    found, damaged, cut = await asyncio.to_thread(_manifests, place)
    if not found and not damaged:
        raise not_found(f"there is no {MANIFEST} here", place, "give an artifact's place, or one above it")
    async with control.database.write() as connection:
        for manifest, where in found:
            run, task = made_by(where)
            await register(connection, manifest, where, run, task, owner=who.id)
    models = [await find(control.database, manifest.digest) for manifest, _ in found]
    return Imported(models=models, damaged=damaged, cut=cut)


def made_by(address: str) -> tuple[str, str]:
    """The run and the task whose place this is: `…/<run>/artifacts/<task>/<output>`; empty for any other."""
    path = PLACE.search(address)
    return (path["run"], path["task"]) if path else ("", "")


def _manifests(place: str) -> tuple[list[tuple[Manifest, str]], list[str], bool]:
    found, damaged = [], []
    places = _artifacts(place)
    for where in places[:MOST]:
        try:
            found.append((read_manifest(where), where))
        except (ArtifactError, MissingKey, StoreError, OSError) as error:
            damaged.append(str(error)[:500])
    return found, damaged, len(places) > MOST


def _artifacts(place: str) -> list[str]:
    """The addresses of the artifacts at or below a place, one more than an import takes where there are more."""
    if "://" in place:
        store = open_store(place)
        keys = (entry.key for entry in store.list() if entry.key.rpartition("/")[2] == MANIFEST)
        return [store.address(key.rpartition("/")[0]) for _, key in zip(range(MOST + 1), keys, strict=False)]
    found = []
    for folder, folders, files in os.walk(Path(place)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if MANIFEST in files:
            folders.clear()
            found.append(folder)
            if len(found) > MOST:
                break
    return found
