"""What is done to a run that is there: cancelled, gone on with, begun again from a phase, pinned.

Whoever asks names the version that they have seen. Where the run is another by now, nothing is done and its present state
is the answer; where it is already what was asked for, that is the answer: twice is once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ...phases import PHASES
from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused, not_found
from ..store.database import now
from ..store.tables import run, task
from ..store.upsert import upsert
from .planning import Asked, PlanOfRun, planned, row_for, tasks_of
from .runs import Run, got, shown
from .strip import Row
from .transitions import OVER, change

CANCEL, KILL = "cancel", "kill"


async def cancelled(control: Control, who: Principal, run_id: str, version: int | None = None) -> Run:
    """Stop a run: its phases write their checkpoints. Asked again, of the run as it is then, they are killed.

    :param version: that whoever asks has seen; None where they do not care.
    :raises Refused: it is another by now (412), it has ended (409), there is none, or it is somebody else's (404).
    """
    async with control.database.write() as connection:
        row = await owned(connection, who, run_id)
        if not _same(control, row, version, ("cancelling", "cancelled")):
            return shown(control, row)
        if row["state"] == "queued":
            time = await connection.scalar(select(now()))
            await change(connection, run_id, state="cancelled", why="", asked="", finished=time, eta=None)
        elif row["state"] in OVER:
            raise _conflict(control, row, "it has ended already")
        elif row["state"] != "cancelling":
            await change(connection, run_id, state="cancelling", asked=CANCEL, asked_at=now(), why="")
        elif row["asked"] != KILL:
            await change(connection, run_id, asked=KILL)
    return await _told(control, run_id)


async def resumed(
    control: Control,
    who: Principal,
    run_id: str,
    version: int | None = None,
    *,
    first: str = PHASES[0],
    last: str = "",
    only: tuple[str, ...] = ("failed", "cancelled", "lost", "succeeded"),
) -> Run:
    """Go on with a run that has ended: it waits in the queue again. What is done in it stays done.

    :param version: see `cancelled`.
    :param first: from this phase on tasks run again, also those that are done.
    :param last: phases after this one are left for later; "" as it was asked for first.
    :param only: of a run in one of these states.
    :raises Refused: see `cancelled`.
    :raises ForgeError: it cannot go on: its folder is damaged.
    """
    async with control.database.write() as connection:
        row = await owned(connection, who, run_id)
        if not _same(control, row, version, ("queued", "starting", "running")):
            return shown(control, row)
        if row["state"] not in only:
            raise _conflict(control, row, f"it is {row['state']}")
        seen = int(row["version"])
    request = {**Asked().model_dump(exclude={"dry_run"}), **row["request"]}
    request["again"] = {"start_phase": first, "end_phase": last or request["end_phase"]}
    plan = await _plan(control, row, request) if row["target"] == "local" else None
    async with control.database.write() as connection:
        row = await owned(connection, who, run_id)
        if row["version"] != seen:
            raise _stale(control, row)
        needs = {"gpus": plan.gpus, "memory_bytes": plan.memory_bytes} if plan else {}
        slots = {"slots": plan.slots} if plan else {}
        process = {
            name: value for name, value in (row["process"] or {}).items() if name == "producer"
        } | slots
        await change(
            connection, run_id, state="queued", why="", asked="", asked_at=None, finished=None, eta=None,
            failing="", error=None, request=request, process=process, **needs,
        )  # fmt: skip
        if plan is not None:
            await _expect(connection, run_id, plan)
    return await _told(control, run_id)


async def _plan(control: Control, row: Row, request: dict[str, Any]) -> PlanOfRun:
    """What a run would do that goes on, or, where it has no folder yet, begins after all."""
    if (Path(row["folder"]) / "run.json").is_file():
        again = {
            "resume": row["id"],
            "slots": request["slots"],
            "cache": request["cache"],
            **request["again"],
        }
        return await planned(control, Asked(**again))
    return await planned(
        control, Asked(**{name: value for name, value in request.items() if name != "again"})
    )


async def pinned(control: Control, who: Principal, run_id: str, *, pin: bool) -> Run:
    """Keep a run from being cleaned up or deleted, or take that back.

    :raises Refused: there is none, or it is somebody else's: 404.
    """
    async with control.database.write() as connection:
        await owned(connection, who, run_id)
        await connection.execute(update(run).where(run.c.id == run_id).values(pinned=pin))
    return await _told(control, run_id)


async def owned(connection: AsyncConnection, who: Principal, run_id: str) -> Row:
    """The row of a run that whoever asks may change, locked until the transaction ends.

    :raises Refused: there is none, or it is somebody else's: 404.
    """
    query = select(run).where(run.c.id == run_id).with_for_update()
    row = (await connection.execute(query)).mappings().first()
    if row is None or not who.owns(row["owner"]):
        raise not_found("there is no such run", "run", "GET /phases/runs lists them")
    return row


def _same(control: Control, row: Row, version: int | None, wanted: tuple[str, ...]) -> bool:
    """Whether something is to be done: the run is as it was seen. False where it is already what is wanted.

    :raises Refused: it is another by now: 412.
    """
    if version is None or row["version"] == version:
        return True
    if row["state"] in wanted and row["version"] > version:
        return False
    raise _stale(control, row)


def _stale(control: Control, row: Row) -> Refused:
    state = shown(control, row)
    return Refused(
        412, "the run is another by now", where="If-Match", why=f"it is {state.state}, version {state.version}",
        fix="look at it, and ask again with its version", state=state.model_dump(mode="json"),
        headers={"ETag": f'"{state.version}"'},
    )  # fmt: skip


def _conflict(control: Control, row: Row, why: str) -> Refused:
    state = shown(control, row)
    return Refused(
        409, "this cannot be done with the run now", where="run", why=why, fix="look at what its actions allow",
        state=state.model_dump(mode="json"), headers={"ETag": f'"{state.version}"'},
    )  # fmt: skip


async def _expect(connection: AsyncConnection, run_id: str, plan: PlanOfRun) -> None:
    """How long each task may take, beside what is known of it."""
    rows = [row_for(run_id, own) for own in tasks_of(plan)]
    await upsert(
        connection,
        task,
        rows,
        lambda new: {"progress": new.progress},
        where=lambda new: task.c.state != "running",
    )


async def _told(control: Control, run_id: str) -> Run:
    await control.bus.wake(run_id)
    await control.bus.wake("")
    return await got(control, run_id)
