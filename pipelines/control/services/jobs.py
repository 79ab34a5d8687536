"""Work that comes again and again: each job by one process of all, with what it came to for everybody to see.

A job's row is its lease, on the database's clock. Whoever takes it first runs it; the others see when it was and will be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select, update

from components.shared.runtime.errors import ForgeError, StoreError

from ..context import Control
from ..errors import Refused, not_found
from ..store.database import now
from ..store.tables import job
from ..store.upsert import upsert
from . import housekeeping, packing

log = logging.getLogger("forge.control")

LOOK_SECONDS = 5.0
LEASE_SECONDS = 60.0
RENEW_SECONDS = 20.0


@dataclass(frozen=True)
class Job:
    """Something that comes again.

    :param every: seconds between two beginnings.
    :param work: does it; what it returns is shown.
    """

    every: float
    work: Callable[[Control], Awaitable[dict[str, Any]]]
    summary: str


JOBS: dict[str, Job] = {
    "cleanup_checkpoints": Job(
        3600.0,
        housekeeping.cleanup_checkpoints,
        "Removes checkpoints of finished tasks that nobody goes on from.",
    ),
    "update_metrics": Job(
        300.0, housekeeping.update_metrics, "Compares what phases take with what they took before."
    ),
    "compact_runs": Job(
        600.0,
        packing.pack_events,
        "Makes the events of each run that has ended one object beside its artifacts.",
    ),
    "expire": Job(
        600.0, housekeeping.expire, "Forgets keys, tokens and confirmations that are past their time."
    ),
}


class JobState(BaseModel):
    """A job, and what it came to.

    :param started: last; `finished` is None while it goes on.
    :param next: when it comes again.
    :param result: of the last time.
    """

    name: str
    summary: str
    every: float
    holder: str = ""
    running: bool = False
    started: float | None = None
    finished: float | None = None
    next: float = 0.0
    result: dict[str, Any] | None = None


async def serve(control: Control) -> None:
    """Run jobs when their time has come, until cancelled."""
    await _make_rows(control)
    while True:
        for name in JOBS:
            try:
                if await take(control, name):
                    await run_taken(control, name)
            except StoreError as error:
                log.warning("job %s is tried again: %s", name, error)
        await asyncio.sleep(LOOK_SECONDS)


async def listed(control: Control) -> list[JobState]:
    """All jobs, and what they came to."""
    async with control.database.read() as connection:
        time = await connection.scalar(select(now()))
        rows = {row["name"]: row for row in (await connection.execute(select(job))).mappings()}
    states = []
    for name, own in JOBS.items():
        row = rows.get(name)
        known = (
            {column: row[column] for column in ("holder", "started", "finished", "next", "result")}
            if row
            else {}
        )
        running = bool(row and row["lease_until"] > time)
        states.append(JobState(name=name, summary=own.summary, every=own.every, running=running, **known))
    return states


async def asked_for(control: Control, name: str) -> JobState:
    """Have a job run now, by whoever looks first.

    :raises Refused: there is none (404), or it is running (409).
    """
    if name not in JOBS:
        raise not_found("there is no such job", "name", f"they are {', '.join(JOBS)}")
    await _make_rows(control)
    async with control.database.write() as connection:
        idle = update(job).where(job.c.name == name, job.c.lease_until < now())
        changed = await connection.execute(idle.values(next=0.0))
    if not changed.rowcount:
        raise Refused(409, "this job is running", where=name, fix="wait for its result")
    return next(state for state in await listed(control) if state.name == name)


async def take(control: Control, name: str) -> bool:
    """Take a job whose time has come. Of many who try at once one gets it."""
    due = update(job).where(job.c.name == name, job.c.next <= now(), job.c.lease_until < now())
    async with control.database.write() as connection:
        taken = await connection.execute(
            due.values(
                holder=control.name, lease_until=now() + LEASE_SECONDS, started=now(), finished=None,
                next=now() + JOBS[name].every,
            )
        )  # fmt: skip
    return taken.rowcount == 1


async def run_taken(control: Control, name: str) -> None:
    """Run a job that was taken, and write down what it came to."""
    renewing = asyncio.create_task(_renew(control, name))
    result: dict[str, Any]
    try:
        result = await JOBS[name].work(control)
    except ForgeError as error:
        result = {"error": {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}}
    except Exception as error:
        log.exception("job %s has failed", name)
        result = {"error": {"what": "the job has failed", "why": type(error).__name__}}
    finally:
        renewing.cancel()
    async with control.database.write() as connection:
        ours = update(job).where(job.c.name == name, job.c.holder == control.name)
        await connection.execute(ours.values(finished=now(), lease_until=0.0, result=result))


async def _renew(control: Control, name: str) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            async with control.database.write() as connection:
                ours = update(job).where(
                    job.c.name == name, job.c.holder == control.name, job.c.finished.is_(None)
                )
                await connection.execute(ours.values(lease_until=now() + LEASE_SECONDS))
        except StoreError as error:
            log.warning("the lease of job %s is renewed later: %s", name, error)


async def _make_rows(control: Control) -> None:
    async with control.database.write() as connection:
        rows = [{"name": name, "every": own.every} for name, own in JOBS.items()]
        await upsert(
            connection,
            job,
            rows,
            lambda new: {"every": new.every},
            where=lambda new: job.c.every != new.every,
        )
