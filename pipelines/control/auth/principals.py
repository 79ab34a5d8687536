"""The principals: people, services and whoever an identity provider sends. The first is an admin."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import InputError

from ..errors import Refused, not_found
from ..settings import ControlSettings
from ..store.database import Database, now
from ..store.tables import principal
from . import keys
from .rights import Role

ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
KEY_FILE = "admin-key"


async def create(connection: AsyncConnection, name: str, role: Role, *, subject: str = "") -> str:
    """Add one.

    :returns: its id.
    :raises Refused: 409: the name is taken.
    """
    if await connection.scalar(select(principal.c.id).where(principal.c.name == name)):
        raise Refused(409, "this name is taken", where="name", fix="choose another")
    id = uuid.uuid4().hex
    await connection.execute(
        insert(principal).values(
            id=id, name=named(name), role=role, subject=subject, created=now(), disabled=False
        )
    )
    return id


def named(name: str) -> str:
    """A name that can be shown and logged.

    :raises InputError: it cannot.
    """
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InputError("this is no name", where="name", fix="give up to 200 characters that can be printed")
    return name.strip()


async def change(
    connection: AsyncConnection, id: str, *, role: Role | None = None, disabled: bool | None = None
) -> dict[str, Any]:
    """Give one another role, shut it out, or let it in again. It counts from the next request on.

    :returns: what it is now.
    :raises Refused: there is none; or nobody who may change this would be left.
    """
    given = {name: value for name, value in {"role": role, "disabled": disabled}.items() if value is not None}
    if given:
        await connection.execute(update(principal).where(principal.c.id == id).values(**given))
    row = (await connection.execute(select(principal).where(principal.c.id == id))).mappings().first()
    if row is None:
        raise not_found("there is no such principal", "principals", fix="GET /auth/principals names them")
    if not await connection.scalar(
        select(func.count())
        .select_from(principal)
        .where(principal.c.role == "admin", principal.c.disabled.is_(False))
    ):
        raise Refused(409, "somebody has to be admin", where="role", fix="make another one admin first")
    return dict(row)


async def listed(connection: AsyncConnection, *, limit: int = 500) -> list[dict[str, Any]]:
    """All of them, by name."""
    rows = await connection.execute(select(principal).order_by(principal.c.name).limit(limit))
    return [dict(row) for row in rows.mappings()]


async def by_name(connection: AsyncConnection, name: str) -> dict[str, Any]:
    """The principal of this name.

    :raises Refused: there is none.
    """
    row = (await connection.execute(select(principal).where(principal.c.name == name))).mappings().first()
    if row is None:
        raise not_found("there is no such principal", name, fix="forge keys create --role … makes one")
    return dict(row)


async def first_admin(connection: AsyncConnection) -> str:
    """The id of the admin that is longest here; empty for none."""
    found: str | None = await connection.scalar(
        select(principal.c.id)
        .where(principal.c.role == "admin", principal.c.disabled.is_(False))
        .order_by(principal.c.created)
        .limit(1)
    )
    return found or ""


async def first_start(settings: ControlSettings, database: Database) -> Path | None:
    """Make the first admin, with a key in a file that only its owner reads.

    :returns: the file; None where this is not the first start.
    """
    try:
        async with database.write() as connection:
            if await connection.scalar(select(principal.c.id).limit(1)):
                return None
            id = await create(connection, "admin", "admin")
            made = await keys.make(connection, "key", principal=id, name="made at the first start")
            return _written(settings.folder / KEY_FILE, made.text)
    except (IntegrityError, Refused):
        return None  # another replica was faster


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of a database that is gone
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return path
