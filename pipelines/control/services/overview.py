"""The machine room at one look: what waits and for what, what each controller's machine has, the jobs, the storage."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

from pydantic import BaseModel
from sqlalchemy import func, select

from components.shared.runtime.code import VERSION

from ..context import Control
from ..store.database import now
from ..store.tables import controller, principal, run
from .controller import CONTROLLER_SECONDS, as_waiting
from .jobs import JobState, listed
from .queue import ordered
from .transitions import AT_WORK

NOBODY = "no controller is there to begin it: start `forge control --role controller`"


class QueuedRun(BaseModel):
    """A run that waits.

    :param position: 1 is the next one.
    :param why: what it waits for.
    """

    id: str
    position: int
    owner: str
    owner_name: str = ""
    priority: int
    waited: float
    why: str
    gpus: int
    slots: int
    memory_bytes: int


class ControllerState(BaseModel):
    """A process that carries runs out, and what its machine has for them.

    :param alive: it has said so within the last seconds.
    """

    name: str
    host: str
    alive: bool
    seen: float
    pools: dict[str, Any]


class Overview(BaseModel):
    """The machine room."""

    queue: list[QueuedRun]
    pools: list[ControllerState]
    jobs: list[JobState]
    runs: dict[str, int]
    storage: dict[str, Any]
    version: str


async def overview(control: Control) -> Overview:
    """What there is now."""
    async with control.database.read() as connection:
        time = float(await connection.scalar(select(now())) or 0.0)
        rows = (await connection.execute(select(controller).order_by(controller.c.name))).mappings().all()
        counted = await connection.execute(select(run.c.state, func.count()).group_by(run.c.state))
        counts: dict[str, int] = {state: number for state, number in counted}
    return Overview(
        queue=await queued(control),
        pools=[
            ControllerState(
                **{name: row[name] for name in ("name", "host", "seen", "pools")},
                alive=row["seen"] > time - CONTROLLER_SECONDS,
            )
            for row in rows
            if row["seen"] > time - 86_400
        ],
        jobs=await listed(control),
        runs=counts,
        storage=await asyncio.to_thread(_storage, control),
        version=VERSION,
    )


async def queued(control: Control) -> list[QueuedRun]:
    """What waits, in the order in which it will begin."""
    query = (
        select(run, principal.c.name.label("owner_name"), now().label("now"))
        .select_from(run.outerjoin(principal, run.c.owner == principal.c.id))
        .where(run.c.state == "queued")
        .order_by(run.c.priority.desc(), run.c.created)
        .limit(500)
    )
    async with control.database.read() as connection:
        rows = {row["id"]: row for row in (await connection.execute(query)).mappings()}
        going = await connection.execute(
            select(run.c.owner, func.count()).where(run.c.state.in_(AT_WORK)).group_by(run.c.owner)
        )
        running: dict[str, int] = {owner: number for owner, number in going}
        alive = await connection.scalar(
            select(func.count()).where(controller.c.seen > now() - CONTROLLER_SECONDS)
        )
    nobody = "" if alive else NOBODY
    order = ordered([as_waiting(row) for row in rows.values()], running)
    return [
        QueuedRun(
            id=one.run, position=position, owner=one.owner, owner_name=rows[one.run]["owner_name"] or "",
            priority=one.priority, waited=one.waited, why=nobody or rows[one.run]["why"], gpus=one.demand.gpus,
            slots=one.demand.slots, memory_bytes=one.demand.memory_bytes,
        )
        for position, one in enumerate(order, 1)
    ]  # fmt: skip


def _storage(control: Control) -> dict[str, Any]:
    runs = control.settings.runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(runs)
    return {
        "runs": str(runs), "store": control.settings.store, "total_bytes": usage.total, "free_bytes": usage.free,
        "database": "sqlite" if control.database.sqlite else "postgresql",
    }  # fmt: skip
