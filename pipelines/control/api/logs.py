"""The log of a task, page by page."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from ..auth.guard import right
from ..services.logs import LogPage, lines
from .app import Here
from .text import Word

router = APIRouter(prefix="/phases/runs", tags=["phases"])

LARGEST_PAGE = 10_000


@router.get("/{run_id}/logs", dependencies=[right("phases", "read")])
async def logs(
    here: Here,
    run_id: Annotated[str, Path(max_length=200)],
    task: Word = "",
    attempt: Annotated[
        Annotated[int, Field(ge=0, lt=1 << 31)] | Literal[""], Query(description="0, or nothing, for all")
    ] = 0,
    after: Annotated[int, Query(ge=0, le=1 << 53)] = 0,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 1000,
    q: Word = "",
    level: Annotated[Literal["", "error", "warning", "info", "debug"], Query()] = "",
) -> LogPage:
    """The lines behind number `after`, and who has them.

    :raises Refused: there is no such run: 404.
    """
    return await lines(here, run_id, task, int(attempt or 0), after, limit, q, level)
