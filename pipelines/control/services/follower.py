"""Stays with one run from the moment that we hold it until it has ended, or is somebody else's.

What a person asks of it is passed on; what it does is written down; when it has ended its end is said, and not before
nothing of it lives. A database that does not answer stops nothing: the run goes on, and is written down later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

from components.shared.runtime.errors import ForgeError, StoreError

from ..context import Control
from ..store.database import now
from ..store.events import LeaseLost, NewEvent
from .actions import KILL
from .carrier import Carrier, Held, Look
from .local_carrier import row_now
from .projection import record
from .strip import Row
from .transitions import change

log = logging.getLogger("forge.control")

POLL_SECONDS = 0.25
AWAY_SECONDS = 1.0
"""So long after a database that did not answer it is asked again."""

GRACE_SECONDS = 45.0
"""So long a run that is cancelled has for its checkpoints; then it is killed, and again every KILL_SECONDS."""

KILL_SECONDS = 5.0
SAID_SECONDS = 120.0
"""So long after a cancel an error says what still lives."""

MOST_STARTS = 5
"""So often a run whose process is killed is begun again."""


class Follower:
    """Follows one run.

    :param begin: it has to be started; False where it is taken over, and may go on.
    """

    def __init__(self, control: Control, carrier: Carrier, held: Held, *, begin: bool) -> None:
        self.control = control
        self.carrier = carrier
        self.held = held
        self.begin = begin
        self.woken = asyncio.Event()
        self._killed = 0.0
        self._said = False

    async def follow(self) -> None:
        """Stay with it until it has ended, or is somebody else's."""
        while True:
            try:
                if not await self._step():
                    return
                pause = POLL_SECONDS
            except LeaseLost:
                await self._abandon()
                return
            except StoreError as error:
                log.warning("run %s goes on, and is written down later: %s", self.held.id, error)
                pause = AWAY_SECONDS
            except ForgeError as error:
                if await self._failed(error):
                    return
                pause = AWAY_SECONDS
            self.woken.clear()
            try:
                await asyncio.wait_for(self.woken.wait(), pause)
            except TimeoutError:
                continue

    async def _step(self) -> bool:
        """One look; False when there is no more to look at."""
        row = await row_now(self.control, self.held.id)
        if row is None or row["epoch"] != self.held.epoch:
            raise LeaseLost("somebody else is at this run", where=self.held.id)
        self.held = replace(self.held, row=row)
        if self.begin:
            if not row["asked"]:
                await self.carrier.start(self.held)
            self.begin = False
            return True
        if row["asked"]:
            await self._cancel(row)
            self.held = replace(self.held, row=await row_now(self.control, self.held.id) or row)
        look = await self.carrier.look(self.held)
        if look.alive:
            await self._say_what_lives(look)
            return True
        return await self._ended(look)

    async def _cancel(self, row: Row) -> None:
        """Pass on that it shall stop; kill it where it was asked twice, or takes too long."""
        kill = row["asked"] == KILL or _since_asked(row) > GRACE_SECONDS
        if kill and time.monotonic() - self._killed < KILL_SECONDS:
            return
        if kill:
            self._killed = time.monotonic()
        await self.carrier.cancel(self.held, kill=kill)

    async def _say_what_lives(self, look: Look) -> None:
        row = self.held.row
        if self._said or not row["asked"] or _since_asked(row) < SAID_SECONDS:
            return
        data = {
            "kind": "error", "what": "the run was cancelled, and something of it still lives", "where": self.held.id,
            "why": ", ".join(look.living) or "its carrier does not say what", "fix": "end it by hand",
        }  # fmt: skip
        living = NewEvent("errors", "", 0, "control/living", int(row["version"]), time.time(), data)
        await record(self.control, self.held.id, [living], epoch=self.held.epoch)
        self._said = True

    async def _ended(self, look: Look) -> bool:
        """What follows when nothing of it lives; whether there is more to look at."""
        row = (
            await row_now(self.control, self.held.id) or self.held.row
        )  # with what the last look has written
        asked, state = bool(row["asked"]), look.ended
        if look.lost:
            await self._say("lost", look.lost)
        elif state == "failed" and row["state"] != "failed":
            why = str((look.error or {}).get("what", ""))
            await self._say("failed", why, error=dict(look.error) if look.error else None)
        elif state in ("succeeded", "failed"):
            if row["state"] != state:
                await self._say(state, "")
        elif state == "cancelled" or asked:
            await self._say("cancelled", "" if asked else "it was stopped on its machine, not from here")
        elif row["origin"] == "command" and not (row["process"] or {}).get("starts"):
            fix = f"forge run-pipeline --resume {row['folder']}"
            await self._say("lost", f"the process that ran it is gone; it goes on with: {fix}")
        elif int((row["process"] or {}).get("starts") or 0) >= MOST_STARTS:
            await self._say(
                "failed", f"its process was killed {MOST_STARTS} times, most often as memory ran out"
            )
        else:
            log.warning("the process of run %s is gone: it goes on from what is done", self.held.id)
            await self.carrier.start(self.held)
            return True
        await self._over()
        return False

    async def _failed(self, error: ForgeError) -> bool:
        """It cannot begin, or go on: it has failed. False where that cannot be written down now."""
        said = {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}
        try:
            await self._say("failed", error.what, error=said)
            await self._over()
        except LeaseLost:
            await self._abandon()
        except StoreError:
            return False
        return True

    async def _say(self, state: str, why: str, error: dict[str, Any] | None = None) -> None:
        finished: dict[str, Any] = {"finished": now()} if not self.held.row["finished"] else {}
        async with self.control.database.write() as connection:
            await change(
                connection, self.held.id, epoch=self.held.epoch, error=error, state=state, why=why, eta=None,
                asked="", **finished,
            )  # fmt: skip

    async def _over(self) -> None:
        await self.control.bus.wake(self.held.id)
        await self.control.bus.wake("")

    async def _abandon(self) -> None:
        try:
            successor = await row_now(self.control, self.held.id)
        except StoreError:  # then who has it is not known: what runs goes on
            return
        log.warning("run %s is somebody else's by now", self.held.id)
        await self.carrier.abandon(self.held, dict(successor or {}))


def _since_asked(row: Row) -> float:
    """Seconds since it was cancelled, on the database's clock."""
    return float(row["now"]) - float(row["asked_at"] or row["now"])
