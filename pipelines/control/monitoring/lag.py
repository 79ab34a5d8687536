"""How late events are: from the moment at which one has happened to the moment at which it can be read in this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from components.shared.runtime.errors import StoreError

from ..bus.bus import ALL_RUNS
from ..store.database import now
from ..store.tables import event, run

if TYPE_CHECKING:
    from ..context import Control

log = logging.getLogger("forge.control")


async def serve(control: Control) -> None:
    """Look at the newest event of each run that is woken, as its readers do."""
    async with control.bus.listening() as woken:
        async for name in woken:
            if name != ALL_RUNS:
                await observe(control, name)


async def observe(control: Control, name: str) -> None:
    """Note how late the newest event of a run is, by the database's clock."""
    newest = (
        select(now() - event.c.time)
        .join(run, run.c.id == event.c.run)
        .where(event.c.run == name, event.c.seq == run.c.last_seq)
    )
    try:
        async with control.database.read() as connection:
            late = await connection.scalar(newest)
    except StoreError as error:
        log.warning("%s", error)
        return
    if late is not None:
        control.meters.lag.observe(max(0.0, late))
