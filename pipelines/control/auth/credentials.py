"""Who asks: by a token in `Authorization`, else by a key in `X-API-Key`, else, of a browser's WebSocket, by a subprotocol.

Nothing is cached: each request looks up its credential by an index, so what is revoked on one replica is revoked on all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
from sqlalchemy import ColumnElement, Row, update
from starlette.requests import HTTPConnection

from ..errors import Refused
from ..settings import secret_of
from ..store.database import Database, now
from ..store.tables import api_key
from . import keys, oidc, tokens
from .living import living
from .rate import EVENTS, network
from .rights import Principal
from .tokens import unauthorized

if TYPE_CHECKING:
    from ..context import Control

PROTOCOL = "forge.v1"
"""The subprotocol that a WebSocket of a browser speaks; `bearer.<token>` stands beside it."""


async def find_principal(connection: HTTPConnection) -> Principal:
    """Who asks, counted against their limit.

    :raises Refused: 401 where nobody is known; 429 where they have asked too often.
    """
    control: Control = connection.app.state.control
    address = network(connection.client.host if connection.client else "")
    try:
        who = await known(control, connection)
    except Refused as refusal:
        if refusal.status == 401:
            await control.limiter.take(f"unknown:{address}", control.settings.rate_limit)
        raise
    if who.role == "run":
        await control.limiter.take(f"events:{who.run}", EVENTS)
    else:
        await control.limiter.take(f"principal:{who.id}", control.settings.rate_limit)
    return who


async def known(control: Control, connection: HTTPConnection) -> Principal:
    """Who asks.

    :raises Refused: 401.
    """
    headers = connection.headers
    if (given := headers.get("authorization")) is not None:
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized("Authorization has another form", fix="give Authorization: Bearer and a token")
        return await by_token(control, token.strip())
    if (key := headers.get("x-api-key")) is not None:
        return await by_key(control.database, key.strip())
    if connection.scope["type"] == "websocket":
        for name in headers.get("sec-websocket-protocol", "").split(","):
            if name.strip().startswith("bearer."):
                return await by_token(control, name.strip().removeprefix("bearer."))
    raise unauthorized()


async def by_token(control: Control, token: str) -> Principal:
    """Whose token this is: ours, which HS256 signs, or the identity provider's.

    :raises Refused: 401.
    """
    if token.startswith(tuple(keys.PREFIX.values())):
        return await by_key(control.database, token)
    try:
        algorithm = jwt.get_unverified_header(token).get("alg")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise unauthorized("this is no token of ours") from None
    if control.provider is not None and algorithm in oidc.ALGORITHMS:
        return await oidc.known(control.database, control.provider, await control.provider.read(token))
    claims = tokens.read(secret_of(control.settings), token)
    kind, _, id = claims.credential.partition(":")
    if kind == "key":
        proof = (api_key.c.kind == "key") & (api_key.c.id == id)
    else:
        proof = (api_key.c.kind == "refresh") & (api_key.c.family == id)
    row = await _living(control.database, proof & (api_key.c.principal == claims.principal))
    if row is None:
        raise unauthorized("the session is over", fix="sign in again")
    return _principal(row, claims.credential)


async def by_key(database: Database, key: str) -> Principal:
    """Whose key this is.

    :raises Refused: 401: nobody's, revoked, expired, or of a run that has ended.
    """
    if len(key) > keys.LONGEST:
        raise unauthorized("there is no such key")
    row = await _living(database, (api_key.c.sha256 == keys.sha256(key)) & api_key.c.kind.in_(("key", "run")))
    if row is None:
        raise unauthorized("there is no such key, or it has been revoked or has expired")
    if row.stale:
        async with database.write() as connection:
            await connection.execute(update(api_key).where(api_key.c.id == row.key_id).values(used=now()))
    return _principal(row, f"{row.kind}:{row.key_id}")


async def _living(database: Database, proof: ColumnElement[bool]) -> Row[Any] | None:
    async with database.read() as connection:
        row: Row[Any] | None = (await connection.execute(living(proof).limit(1))).first()
    return row


def _principal(row: Row[Any], credential: str) -> Principal:
    if row.kind == "run":
        return Principal(f"run:{row.run}"[:64], row.run, "run", run=row.run, credential=credential)
    return Principal(row.id, row.name, row.role, frozenset(row.scopes), credential=credential)
