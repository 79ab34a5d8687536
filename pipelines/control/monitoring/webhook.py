"""Who may post alerts, and ask for more room: whoever knows FORGE_WEBHOOK_SECRET.

Two ways. A program signs what it sends:

    X-Forge-Timestamp: 1764460800          Unix seconds, at most five minutes off
    X-Forge-Nonce: 6f1c…                   of 16 to 64 letters and digits, never the same again
    X-Forge-Signature: sha256=…            HMAC-SHA256 of "<timestamp>.<nonce>." and the body, by the secret

Alertmanager cannot sign. It sends the secret itself, from a file: `Authorization: Bearer …`, over loopback or TLS.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from sqlalchemy import delete
from starlette.requests import Request

from ..errors import Refused
from ..store.database import Database, now
from ..store.tables import confirmation
from ..store.upsert import upsert

WINDOW_SECONDS = 300.0
NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


def signature(secret: str, timestamp: str, nonce: str, body: bytes) -> str:
    """What X-Forge-Signature has to say."""
    text = f"{timestamp}.{nonce}.".encode() + body
    return "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


async def trusted(request: Request, database: Database, secret: str) -> bytes:
    """The body of a request by somebody who knows the secret.

    :raises Refused: 403 where no secret is set; 401 for everybody else, and for what was sent before.
    """
    if not secret:
        raise Refused(
            403, "the webhook takes nothing", where="FORGE_WEBHOOK_SECRET", fix="set it on the server"
        )
    body = await request.body()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), secret.encode()):
        return body
    timestamp, nonce = (request.headers.get(f"x-forge-{name}", "") for name in ("timestamp", "nonce"))
    given = request.headers.get("x-forge-signature", "")
    if not hmac.compare_digest(given.encode(), signature(secret, timestamp, nonce, body).encode()):
        raise _unauthorized("neither a token nor a signature that fits")
    if not NONCE.fullmatch(nonce) or not timestamp.isdigit():
        raise _unauthorized("the timestamp or the nonce has another form")
    await _once(database, int(timestamp), nonce)
    return body


async def _once(database: Database, timestamp: int, nonce: str) -> None:
    async with database.write() as connection:
        time = float(await connection.scalar(now().select()) or 0.0)
        if abs(time - timestamp) > WINDOW_SECONDS:
            raise _unauthorized("it was signed too long ago, or its clock is wrong")
        key = hashlib.sha256(f"webhook {nonce}".encode()).hexdigest()
        await connection.execute(delete(confirmation).where(confirmation.c.expires < time))
        if not await upsert(
            connection, confirmation, [{"nonce": key, "expires": timestamp + 2 * WINDOW_SECONDS}]
        ):
            raise _unauthorized("it was sent before")


def _unauthorized(why: str) -> Refused:
    return Refused(
        401, "the webhook does not know who asks", why=why, fix="docs/control/monitoring.md says how to sign",
        headers={"WWW-Authenticate": "Bearer"},
    )  # fmt: skip
