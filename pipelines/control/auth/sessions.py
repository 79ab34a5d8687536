"""Sessions: begun by a one-time link, kept alive by refresh tokens of which each is good for one use.

All refresh tokens of a session are one family. One that comes a second time has been copied, so the family ends, and
with it every access token of the session. Two tabs that wake up together send the same one in the same moment: within
`LEEWAY` the second gets an access token and no further refresh token.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import Database, now
from ..store.tables import api_key, principal
from . import keys
from .tokens import unauthorized

SECONDS = 14 * 86400.0
"""A session that nobody refreshes for this long is over."""

LEEWAY = 10.0


@dataclass(frozen=True)
class Session:
    """A session that goes on.

    :param refresh: the next refresh token; empty where another tab has got it.
    """

    principal: str
    family: str
    refresh: str

    @property
    def credential(self) -> str:
        """As tokens name it."""
        return f"session:{self.family}"


async def make_link(connection: AsyncConnection, owner: str) -> str:
    """A one-time link's secret, good for ten minutes."""
    return (await keys.make(connection, "link", principal=owner, seconds=keys.LINK_SECONDS)).text


async def begin(database: Database, link: str) -> Session:
    """Begin a session by a one-time link.

    :raises Refused: 401: it is none, was used, or is too old.
    """
    async with database.write() as connection:
        owner: str | None = await connection.scalar(
            update(api_key)
            .where(
                api_key.c.sha256 == keys.sha256(link),
                api_key.c.kind == "link",
                api_key.c.used.is_(None),
                api_key.c.revoked.is_(None),
                api_key.c.expires > now(),
            )
            .values(used=now())
            .returning(api_key.c.principal)
        )
        if owner is None:
            raise unauthorized(
                "the link was used already, or is too old", fix="ask for another: forge keys link"
            )
        family = uuid.uuid4().hex
        made = await keys.make(connection, "refresh", principal=owner, family=family, seconds=SECONDS)
        return Session(owner, family, made.text)


async def go_on(database: Database, token: str) -> Session:
    """Use a refresh token.

    :raises Refused: 401: it is none, is too old, or was used before, which ends the session.
    """
    async with database.write() as connection:
        row = (
            await connection.execute(
                select(
                    api_key,
                    (now() - api_key.c.used).label("since"),
                    (api_key.c.expires > now()).label("young"),
                )
                .join(principal, principal.c.id == api_key.c.principal)
                .where(
                    api_key.c.sha256 == keys.sha256(token),
                    api_key.c.kind == "refresh",
                    api_key.c.revoked.is_(None),
                    principal.c.disabled.is_(False),
                )
                .with_for_update(of=api_key)
            )
        ).first()
        if row is None or not row.young:
            raise unauthorized("the session is over", fix="sign in again")
        if row.used is None:
            await connection.execute(update(api_key).where(api_key.c.id == row.id).values(used=now()))
            made = await keys.make(
                connection, "refresh", principal=row.principal, family=row.family, seconds=SECONDS
            )
            return Session(row.principal, row.family, made.text)
        if row.since <= LEEWAY:
            return Session(row.principal, row.family, "")
        await end(connection, row.family)
    # Outside the transaction, which an exception would undo.
    raise unauthorized(
        "this refresh token was used before, so the session has been ended", fix="sign in again"
    )


async def end(connection: AsyncConnection, family: str) -> None:
    """End a session on all replicas."""
    await connection.execute(
        update(api_key)
        .where(api_key.c.kind == "refresh", api_key.c.family == family, api_key.c.revoked.is_(None))
        .values(revoked=now())
    )


async def family_of(connection: AsyncConnection, token: str) -> str:
    """The session that a refresh token belongs to; empty for none."""
    found: str | None = await connection.scalar(
        select(api_key.c.family).where(api_key.c.sha256 == keys.sha256(token), api_key.c.kind == "refresh")
    )
    return found or ""
