"""What pods send of their events, beside what they leave in the store of their run: the same, only sooner."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import or_, select

from components.shared.runtime.errors import InputError

from ..auth.guard import Asker, right
from ..errors import not_found
from ..services import pod_events
from ..services.projection import record
from ..store.events import NewEvent
from ..store.tables import run as runs
from .app import Here

router = APIRouter(tags=["events"])

MOST_LINES = 5000
SAID = 5
"""So many of the lines that are refused are named."""


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
    :param refused: so many are not what they should be, and not taken; `why`: the first of them, by their numbers.
    """

    new: int
    refused: int = 0
    why: str = ""


@router.post(
    "/events/{run}",
    status_code=202,
    dependencies=[right("events", "write")],
    response_model_exclude_defaults=True,
)
async def ingest(here: Here, who: Asker, run: Annotated[str, Path(max_length=200)], told: Told) -> Taken:
    """Take a chunk. What is known already, by this way or from the store, counts once.

    A line that is not what it should be is refused, and the answer says which and why; the others are taken.

    :raises Refused: there is no such run, or the token is another's: 404.
    :raises InputError: no line is what it should be: 422.
    """
    query = select(runs.c.id).where(or_(runs.c.id == run, runs.c.kfp_id == run))
    async with here.database.read() as connection:
        name = await connection.scalar(query.limit(1))
    if name is None or who.run not in ("", name):
        raise not_found("there is no such run", "run", "a pod tells of its own run only")
    pod_events.check(told.task, told.process)
    known = await pod_events.known_of(here, name, told.task)
    events: list[NewEvent] = []
    refused: list[str] = []
    for line, said in pod_events.each(told.task, told.process, told.lines, known):
        if isinstance(said, InputError):
            refused.append(f"line {str(line.get('n'))[:20]}: {said.why}")
        else:
            events += said
    why = "; ".join(refused[:SAID])
    if refused and len(refused) == len(told.lines):
        raise InputError(
            "no line of this chunk can be understood",
            where=f"{told.task}/{told.process}",
            why=why,
            fix="the pod's image and this server should be of one version",
        )
    new = len(await record(here, name, events)) if events else 0
    return Taken(new=new, refused=len(refused), why=why)
