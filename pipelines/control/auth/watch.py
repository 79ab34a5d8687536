"""Ends what stays open: a WebSocket or a stream whose credential is revoked ends within a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

from components.shared.runtime.errors import StoreError

from ..store.database import Database
from ..store.tables import api_key
from .living import living
from .rights import Principal

log = logging.getLogger("forge.control")

EVERY = 0.5
AT_ONCE = 500
"""Credentials that one statement asks about."""


class Watch:
    """The credentials of everything that stays open in this process.

    :param database: where it is written what has been revoked.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[asyncio.Event, Principal] = {}

    @contextlib.contextmanager
    def held(self, who: Principal) -> Iterator[asyncio.Event]:
        """Watch over a credential while something stays open.

        :returns: an event that is set once it is worth nothing any more.
        """
        ended = asyncio.Event()
        self._held[ended] = who
        try:
            yield ended
        finally:
            del self._held[ended]

    async def serve(self) -> None:
        """Look twice a second; what cannot be looked up stays open until it can."""
        while True:
            await asyncio.sleep(EVERY)
            if self._held:
                try:
                    await self.look()
                except StoreError as error:
                    log.warning("credentials in use could not be looked up: %s", error)

    async def look(self) -> None:
        """Set the events of what has ended."""
        held = dict(self._held)
        alive: dict[str, str] = {}
        credentials = sorted({who.credential for who in held.values()})
        for start in range(0, len(credentials), AT_ONCE):
            alive |= await self._alive(credentials[start : start + AT_ONCE])
        for ended, who in held.items():
            if who.credential == "oidc":
                over = who.expires is not None and time.time() >= who.expires
            else:
                over = alive.get(who.credential) != who.role
            if over:
                ended.set()

    async def _alive(self, credentials: list[str]) -> dict[str, str]:
        """Of each credential that holds, the role that it gives."""
        ids = [credential.partition(":")[2] for credential in credentials]
        statement = living(api_key.c.id.in_(ids) | api_key.c.family.in_(ids))
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        roles = {}
        for row in rows:
            name = f"session:{row.family}" if row.kind == "refresh" else f"{row.kind}:{row.key_id}"
            roles[name] = row.role or "run"
        return roles
