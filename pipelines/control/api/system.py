"""The machine room: what waits, what the machines have for runs, and the jobs that come again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from ..auth.guard import right
from ..services import jobs, overview
from ..services.jobs import JobState
from ..services.overview import Overview
from .app import Here
from .text import Plain

router = APIRouter(tags=["system"])

LOOK = right("system", "read")


@router.get("/system", dependencies=[LOOK])
async def system(here: Here) -> Overview:
    """Queue, pools, jobs and storage at one look."""
    return await overview.overview(here)


@router.get("/system/jobs", dependencies=[LOOK])
async def listed(here: Here) -> list[JobState]:
    """The jobs, when they were and will be, and what they came to."""
    return await jobs.listed(here)


@router.post("/system/jobs/{name}/run", status_code=202, dependencies=[right("system", "execute")])
async def run(here: Here, name: Annotated[Plain, Path(max_length=64)]) -> JobState:
    """Have a job run now."""
    return await jobs.asked_for(here, name)
