"""Models out of the catalogue, and their files off the disk: only where nothing refers to them."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.errors import ForgeError
from components.shared.runtime.store.uri import open_store

from ..auth.places import allowed_place
from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused
from ..store.tables import model_use, run
from .catalogue import owned_row
from .lineage import ALIVE, references
from .manifests import read_manifest
from .models import MADE, remove_rows


class Removed(BaseModel):
    """What was removed.

    :param kept: copies whose files stay, as they are in no place of ours, and why.
    """

    digest: str
    bytes: int
    kept: list[str]


async def remove(control: Control, digest: str, who: Principal) -> Removed:
    """Remove a model, its copies and what is said of it.

    :raises Refused: no such model of theirs, or something refers to it (409, with what does).
    """
    async with control.database.write() as connection:
        row = await owned_row(connection, digest, who)
        referring = await references(connection, digest)
        copies = set(
            await connection.scalars(
                select(model_use.c.address).where(model_use.c.digest == digest, model_use.c.role == MADE)
            )
        ) | {row.address}
        referring += await _asked_for(connection, digest, copies)
        if referring:
            raise Refused(
                409, "something refers to this model", where=digest, why="; ".join(referring),
                fix="remove what refers to it first, or take the pin away", state={"references": referring},
            )  # fmt: skip
        await remove_rows(connection, [digest])
    await control.cache.forget(digest)
    kept = [
        why for copy in sorted(copies) if (why := await asyncio.to_thread(_delete, control, copy, digest))
    ]
    return Removed(digest=digest, bytes=row.bytes, kept=kept)


async def _asked_for(connection: AsyncConnection, digest: str, copies: set[str]) -> list[str]:
    """The runs under way that were started with the model, by its digest or by the address of a copy."""
    wanted = {digest, *copies}
    query = select(run.c.id, run.c.state, run.c.request, run.c.parameters).where(run.c.state.in_(ALIVE))
    found = []
    for row in await connection.execute(query):
        text = json.dumps([row.request, row.parameters], ensure_ascii=False)
        if any(name in text for name in wanted):
            found.append(f"the run {row.id} was started with it and is {row.state}")
    return found


def _delete(control: Control, address: str, digest: str) -> str:
    """Delete the files of a copy; why not, where it stays."""
    try:
        place = allowed_place(control.settings, address)
    except Refused:
        return f"{address} is no place of ours"
    manifest = None
    with suppress(ForgeError, OSError):  # gone already, or damaged: then it is not known to be this one
        manifest = read_manifest(place)
    if manifest is None or manifest.digest != digest:
        return f"{address} holds another model, or none"
    if "://" in place:
        store = open_store(place)
        for name in (MANIFEST, *manifest.files):  # without its manifest it is no artifact any more
            store.delete(name)
        return ""
    folder = Path(place)
    hidden = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.removed")
    try:
        folder.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        return f"{address} cannot be removed: {error}"
    return ""
