"""A run is deleted: its folder, its rows, its models; never while something refers to it."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import delete

from components.shared.runtime.errors import ForgeError, InputError

from ...runs import prune
from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused
from ..store import compacted, compaction
from ..store.tables import metric, run, series
from .actions import owned
from .lineage import references_to_run
from .models import forget_run
from .transitions import OVER

log = logging.getLogger("forge.control")


class Deleted(BaseModel):
    """What was deleted.

    :param bytes: that the disk has got back.
    :param kept: the object of its events, where its store did not let it go, and why.
    """

    id: str
    bytes: int
    kept: list[str] = []


async def deleted(control: Control, who: Principal, run_id: str, version: int | None = None) -> Deleted:
    """Delete a run that has ended.

    :param version: that whoever asks has seen; None where they do not care.
    :raises Refused: it goes on, is pinned, or something refers to it (409, with what does); it is another by now (412).
    """
    async with control.database.write() as connection:
        row = await owned(connection, who, run_id)
        if version is not None and row["version"] != version:
            raise Refused(
                412, "the run is another by now", where="If-Match", why=f"its version is {row['version']}"
            )
        why = [f"it is {row['state']}: cancel it first"] if row["state"] not in OVER else []
        why += ["it is pinned"] if row["pinned"] else []
        why += await references_to_run(connection, run_id)
        if why:
            raise _refers(run_id, why)
        freed = await asyncio.to_thread(_remove, control.settings.runs.absolute(), run_id)
        packed = await compacted.known(connection, run_id)
        await forget_run(connection, run_id)
        for table in (metric, series):
            await connection.execute(delete(table).where(table.c.run == run_id))
        await connection.execute(delete(run).where(run.c.id == run_id))
    await control.bus.wake(run_id)
    await control.bus.wake("")
    return Deleted(id=run_id, bytes=freed, kept=await _events_removed(packed) if packed else [])


async def _events_removed(packed: compacted.Compacted) -> list[str]:
    """Remove the object of a run's events, after their run: nothing names it any more; what stays, and why."""
    try:
        await compaction.remove(packed)
    except ForgeError as error:
        log.warning("the events of the run %s stay in %s: %s", packed.run, packed.store, error)
        return [f"{packed.key} in {packed.store}: {error.what}"]
    return []


def _remove(runs: Path, name: str) -> int:
    """Remove a run's folder, where it is here; the bytes that this has freed.

    :raises Refused: another run reads from it, or somebody is at it: 409.
    """
    try:
        planned = prune.plan_of_one(runs, name)
    except InputError:
        if os.path.lexists(runs / name):
            by_hand = f"its folder cannot be understood: remove {runs / name} by hand"
            raise _refers(name, [by_hand]) from None
        return 0  # it has none here: it never began, or is elsewhere
    done = prune.remove(planned) if planned.removed else planned
    if not done.removed:
        raise _refers(name, [use.reason for use in done.kept if use.folder.name == name])
    return done.freed


def _refers(run_id: str, why: list[str]) -> Refused:
    return Refused(
        409, "the run cannot be deleted", where=run_id, why="; ".join(why),
        fix="remove what refers to it first, or take the pin away", state={"references": why},
    )  # fmt: skip
