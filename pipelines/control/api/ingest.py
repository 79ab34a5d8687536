"""What pods send of their events, beside what they leave in the store of their run: the same, only sooner."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import or_, select

from ..auth.guard import Asker, right
from ..errors import not_found
from ..services import pod_events
from ..services.projection import record
from ..store.tables import run as runs
from .app import Here

router = APIRouter(tags=["events"])

MOST_LINES = 5000


class Told(BaseModel):
    """A chunk of what a process in a pod tells.

    :param process: its name: it numbers its lines from 1 without a gap.
    :param lines: `{n, time, kind, attempt, data}` each.
    """

    model_config = ConfigDict(extra="forbid")

    task: str = Field(max_length=pod_events.LONGEST_TASK)
    process: str = Field(max_length=80)
    lines: list[dict[str, Any]] = Field(max_length=MOST_LINES)


class Taken(BaseModel):
    """What became of it.

    :param new: so many lines were not known yet.
    """

    new: int


@router.post("/events/{run}", status_code=202, dependencies=[right("events", "write")])
async def ingest(here: Here, who: Asker, run: Annotated[str, Path(max_length=200)], told: Told) -> Taken:
    """Take a chunk. What is known already, by this way or from the store, counts once.

    :raises Refused: there is no such run, or the token is another's: 404.
    :raises InputError: a line is not what it should be: 422.
    """
    query = select(runs.c.id).where(or_(runs.c.id == run, runs.c.kfp_id == run))
    async with here.database.read() as connection:
        name = await connection.scalar(query.limit(1))
    if name is None or who.run not in ("", name):
        raise not_found("there is no such run", "run", "a pod tells of its own run only")
    pod_events.check(told.task, told.process)
    known = await pod_events.known_of(here, name, told.task)
    events = pod_events.events_of(told.task, told.process, told.lines, known)
    return Taken(new=len(await record(here, name, events)) if events else 0)
