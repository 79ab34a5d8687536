"""Whether this process lives, and whether it can answer."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import select

from ..auth.guard import public
from ..store.tables import log
from .app import Here

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """How it is.

    :param log: the name of the log of events that cursors belong to.
    """

    status: str
    log: str = ""


@router.get("/healthz", dependencies=[public])
async def healthz() -> Health:
    """The process lives."""
    return Health(status="alive")


@router.get("/readyz", dependencies=[public])
async def readyz(here: Here) -> Health:
    """It can answer: the database does.

    :raises StoreError: it does not.
    """
    async with here.database.read() as connection:
        return Health(status="ready", log=await connection.scalar(select(log.c.name)) or "")
