"""Who did what, and what was refused: rows that are only added, which a trigger in the database sees to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import Database, now
from ..store.tables import audit
from .rights import Principal

LONGEST = {
    "principal": 64,
    "name": 200,
    "action": 100,
    "object": 400,
    "outcome": 32,
    "request_id": 64,
    "address": 64,
}


async def record(
    connection: AsyncConnection,
    who: Principal | None,
    action: str,
    object: str = "",
    *,
    outcome: str = "done",
    request_id: str = "",
    address: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a row, inside the caller's transaction.

    :param who: who did it; None for nobody that is known.
    :param action: a method and a route's template, a tool, or a command.
    :param object: on what.
    :param detail: what else is worth knowing; no secrets.
    """
    values = {
        "principal": who.id if who else "",
        "name": who.name if who else "",
        "action": action,
        "object": object,
        "outcome": outcome,
        "request_id": request_id,
        "address": address,
    }
    short = {name: text.encode("utf-8", "replace").decode()[: LONGEST[name]] for name, text in values.items()}
    await connection.execute(insert(audit).values(time=now(), detail=dict(detail or {}), **short))


async def page(
    database: Database, before: int | None, limit: int, principal: str = ""
) -> list[dict[str, Any]]:
    """The newest rows that are older than `before`.

    :param principal: of one alone.
    """
    statement = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(audit.c.id < before)
    if principal:
        statement = statement.where(audit.c.principal == principal)
    async with database.read() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]
