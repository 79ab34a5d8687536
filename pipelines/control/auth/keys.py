"""Everything random that proves who asks: keys, run tokens, one-time links, refresh tokens. Only their sha256 is kept.

They have 256 random bits, so a fast hash is enough: nobody guesses one, and one look-up by its hash finds it.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import InputError

from ..errors import not_found
from ..store.database import now
from ..store.tables import api_key, principal
from .rights import ACTIONS, RESOURCES

Kind = Literal["key", "run", "link", "refresh"]

PREFIX: dict[Kind, str] = {"key": "fk_", "run": "fr_", "link": "fl_", "refresh": "fs_"}
LINK_SECONDS = 10 * 60.0
LONGEST = 200


@dataclass(frozen=True)
class Made:
    """A new secret: the one time that it is seen."""

    id: str
    text: str


def sha256(text: str) -> str:
    """By which a secret is looked up."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def checked_scopes(scopes: Collection[str]) -> list[str]:
    """The scopes, where all of them exist.

    :raises InputError: one does not.
    """
    known = {f"{resource}:{action}" for resource in RESOURCES for action in ACTIONS}
    if foreign := sorted(set(scopes) - known):
        raise InputError(
            "there is no such scope",
            where="scopes",
            why=f"{len(foreign)} of them name no resource and action",
            fix="give resource:action, such as phases:read",
        )
    return sorted(set(scopes))


async def make(
    connection: AsyncConnection,
    kind: Kind,
    *,
    principal: str = "",
    run: str = "",
    family: str = "",
    name: str = "",
    scopes: Collection[str] = (),
    seconds: float | None = None,
) -> Made:
    """Make one, inside the caller's transaction.

    :param seconds: after which it expires; None for never.
    """
    made = Made(uuid.uuid4().hex, PREFIX[kind] + secrets.token_urlsafe(32))
    await connection.execute(
        insert(api_key).values(
            id=made.id,
            sha256=sha256(made.text),
            kind=kind,
            principal=principal,
            run=run,
            family=family,
            name=name,
            scopes=checked_scopes(scopes),
            created=now(),
            expires=None if seconds is None else now() + seconds,
        )
    )
    return made


async def run_token(connection: AsyncConnection, run: str) -> str:
    """The token with which a run's pods send their events: this run, nothing else, as long as it goes on."""
    return (await make(connection, "run", run=run, name=run)).text


async def revoke(connection: AsyncConnection, id: str) -> dict[str, Any]:
    """End a key, and the sessions that it began.

    :returns: what was known of it.
    :raises Refused: there is none.
    """
    found = (
        await connection.execute(select(api_key).where(api_key.c.id == id, api_key.c.kind == "key"))
    ).mappings()
    if (row := found.first()) is None:
        raise not_found("there is no such key", "keys", fix="GET /auth/keys names them")
    await connection.execute(
        update(api_key).where(api_key.c.id == id, api_key.c.revoked.is_(None)).values(revoked=now())
    )
    return dict(row)


async def revoke_run_tokens(connection: AsyncConnection, run: str) -> None:
    """End a run's tokens before it ends."""
    await connection.execute(
        update(api_key)
        .where(api_key.c.kind == "run", api_key.c.run == run, api_key.c.revoked.is_(None))
        .values(revoked=now())
    )


async def listed(connection: AsyncConnection, *, limit: int = 500) -> list[dict[str, Any]]:
    """All keys, the newest first; of each what is known, which is not the key."""
    columns = [
        api_key.c[name]
        for name in ("id", "name", "scopes", "created", "expires", "used", "revoked", "principal")
    ]
    rows = await connection.execute(
        select(*columns, principal.c.name.label("principal_name"), principal.c.role)
        .join(principal, principal.c.id == api_key.c.principal)
        .where(api_key.c.kind == "key")
        .order_by(api_key.c.created.desc(), api_key.c.id)
        .limit(limit)
    )
    return [dict(row) for row in rows.mappings()]
