"""What changes something is called twice: the first call shows what would be done, and gives a confirmation for it.

A confirmation is an HMAC over the tool, its arguments, the run's version, who calls, when it expires and a word that
nobody else has. So it is good for exactly what was shown, for whoever it was shown to, once, and for five minutes. An
assistant cannot make one, and one that was tricked into another call has none for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select

from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused
from ..settings import ControlSettings, secret_of
from ..store.database import now
from ..store.tables import confirmation
from ..store.upsert import upsert

SECONDS = 300.0
LONGEST = 500


async def issued(
    control: Control, who: Principal, tool: str, arguments: Mapping[str, Any], version: int
) -> str:
    """A confirmation for this call.

    :param arguments: all of them, those that were left out with their defaults.
    :param version: of the run that it is about; 0 where there is none yet.
    """
    async with control.database.read() as connection:
        time = float(await connection.scalar(select(now())) or 0.0)
    content = {"expires": time + SECONDS, "nonce": secrets.token_hex(16)}
    text = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    return f"{text}.{_mac(control.settings, content, who, tool, arguments, version)}"


async def redeemed(
    control: Control, who: Principal, tool: str, arguments: Mapping[str, Any], version: int, given: str
) -> None:
    """Take a confirmation: from now on it is worth nothing.

    :raises Refused: it is for something else or somebody else, has expired, or was used.
    """
    try:
        if len(given) > LONGEST:
            raise ValueError(given)
        text, mac = given.split(".")
        content = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
        expires, nonce = float(content["expires"]), str(content["nonce"])
        genuine = hmac.compare_digest(
            mac.encode(), _mac(control.settings, content, who, tool, arguments, version).encode()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _refused("it is none of ours") from None
    if not genuine:
        raise _refused("it is for another call, another caller, or another state of the run")
    async with control.database.write() as connection:
        time = float(await connection.scalar(select(now())) or 0.0)
        await connection.execute(delete(confirmation).where(confirmation.c.expires < time - SECONDS))
        if expires < time:
            raise _refused(f"it has expired: it holds for {SECONDS:.0f} seconds")
        if not await upsert(connection, confirmation, [{"nonce": nonce, "expires": expires}]):
            raise _refused("it was used already")


def _mac(
    settings: ControlSettings,
    content: Mapping[str, Any],
    who: Principal,
    tool: str,
    arguments: Mapping[str, Any],
    version: int,
) -> str:
    key = hmac.digest(secret_of(settings).encode(), b"agent-forge mcp confirmation", hashlib.sha256)
    said = [content["expires"], content["nonce"], tool, arguments, version, who.id, who.credential]
    return hmac.new(key, json.dumps(said, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _refused(why: str) -> Refused:
    return Refused(
        409,
        "this confirmation is not taken, and nothing was done",
        where="confirmation",
        why=why,
        fix="call the tool without a confirmation, read the preview, and confirm that",
    )
