"""The events of runs that have ended, packed: which runs, and where to."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from sqlalchemy import select

from components.shared.runtime.errors import ForgeError

from ..context import Control
from ..store.compaction import compact, ended
from ..store.tables import run

log = logging.getLogger("forge.control")


async def pack_events(control: Control) -> dict[str, Any]:
    """Pack the events of runs that have ended and been left alone for ten minutes.

    A run whose artifacts are out of this process' reach keeps its events as rows.
    """
    runs, events, size, failed = 0, 0, 0, 0
    for name in await ended(control.database):
        try:
            place = await _place(control, name)
            packed = await compact(control.database, name, place) if place else None
        except ForgeError as error:
            log.warning("the events of the run %s stay as they are: %s", name, error)
            failed += 1
            continue
        if packed:
            runs, events, size = runs + 1, events + packed.events, size + packed.bytes
    return {"runs": runs, "events": events, "bytes": size, "failed": failed}


async def _place(control: Control, name: str) -> str:
    """Where a run's artifacts are, if every process that may read its events can read there; else nothing."""
    async with control.database.read() as connection:
        row = (
            await connection.execute(select(run.c.root, run.c.folder).where(run.c.id == name))
        ).one_or_none()
    if row is None:
        return ""
    shared: str = row.root or control.settings.store
    if shared or not control.database.sqlite:  # with Postgres others may be on other machines
        return shared
    return row.folder if row.folder and await asyncio.to_thread(Path(row.folder).is_dir) else ""
