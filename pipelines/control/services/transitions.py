"""How a run's state changes: with its version, and an event that says so, in one transaction.

queued → starting → running → succeeded, failed, cancelled or lost; cancelling is between running and cancelled. What has
ended can be queued again. Whoever changes a run names what it has seen of it: a version, or an epoch of its lease.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import not_found
from ..store.database import now
from ..store.events import Event, LeaseLost, NewEvent, append
from ..store.tables import run
from .strip import Row

RunState = Literal["queued", "starting", "running", "cancelling", "succeeded", "failed", "cancelled", "lost"]

WAITING: tuple[RunState, ...] = ("queued",)
AT_WORK: tuple[RunState, ...] = ("starting", "running", "cancelling")
OVER: tuple[RunState, ...] = ("succeeded", "failed", "cancelled", "lost")

CONTROL, FAULTS = "control", "control/errors"
"""The producers of these events; their number is the run's version."""


async def present(connection: AsyncConnection, run_id: str) -> Row:
    """The row of a run.

    :raises Refused: there is none: 404.
    """
    row: Row | None = (await connection.execute(select(run).where(run.c.id == run_id))).mappings().first()
    if row is None:
        raise not_found(f"there is no run {run_id[:200]!r}", "run", "GET /phases/runs lists them")
    return row


async def change(
    connection: AsyncConnection,
    run_id: str,
    *,
    version: int | None = None,
    epoch: int | None = None,
    error: dict[str, Any] | None = None,
    **columns: Any,
) -> list[Event]:
    """Change a run, raise its version, and append the event that says how it is now. Part of the caller's transaction.

    :param version: that it must have; None for any.
    :param epoch: of the lease under which it is changed; None for who needs none.
    :param error: why it has failed, {what, where, why, fix}: an event of its own says it, too.
    :param columns: state, why, asked …
    :raises LeaseLost: the run has another epoch, or another version, by now.
    """
    changed = update(run).where(run.c.id == run_id)
    if version is not None:
        changed = changed.where(run.c.version == version)
    if epoch is not None:
        changed = changed.where(run.c.epoch == epoch)
    if error is not None:
        columns["error"] = error
    row = (
        (
            await connection.execute(
                changed.values(version=run.c.version + 1, **columns).returning(
                    run.c.version, run.c.state, run.c.why, now().label("time")
                )
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        raise LeaseLost(f"{run_id} is somebody else's by now")
    number, time = int(row["version"]), float(row["time"])
    data = {"kind": "run", "state": row["state"], "version": number, "why": row["why"]}
    events = [NewEvent("global", "", 0, CONTROL, number, time, data)]
    if error is not None:
        events.append(NewEvent("errors", "", 0, FAULTS, number, time, {"kind": "error", **error}))
    return await append(connection, run_id, events)
