"""All feeds of a process: which runs are watched, who wakes them, and whether the log is still the same.

The bus wakes a feed at once. Behind it stands a poll: once a second the watched runs' last numbers and the log's name are
read in one go, so that a hint which is lost costs a second, and a database that was restored is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from components.shared.runtime.errors import StoreError

from ..bus.bus import ALL_RUNS
from ..store.migrate import log_name
from ..store.tables import log as logs
from ..store.tables import run as runs
from .blocks import Blocks
from .feed import Feed, Gone

if TYPE_CHECKING:
    from ..context import Control

log = logging.getLogger("forge.control")

POLL_SECONDS = 1.0
LIST_SECONDS = 1.0
"""That the list has changed is said so often at most."""

KEPT_SECONDS = 15.0
"""A feed that nobody reads is kept so long: whoever polls comes back."""


class Feeds:
    """The feeds of a process.

    :param control: the process.
    """

    def __init__(self, control: Control) -> None:
        self.control = control
        self.as_of = 0.0
        """When the database was last seen to answer, in Unix seconds."""
        self.list_readers: set[asyncio.Event] = set()
        """Woken when a run has come, gone or changed: `list_version` is another then."""
        self.list_version = 0
        self._blocks = Blocks(control.database)
        self._feeds: dict[str, tuple[Feed, asyncio.Task[None]]] = {}
        self._list_state: tuple[int, ...] = ()
        self._list_said = 0.0
        self._list_timer: asyncio.TimerHandle | None = None

    async def of(self, run: str) -> Feed:
        """The feed of a run, at the end of its log.

        :raises Gone: there is no such run.
        :raises StoreError: the database does not answer.
        """
        known = self._feeds.get(run)
        if known and not known[0].gone:
            feed = known[0]
        else:
            feed = Feed(run, self.control.database, self._blocks)
            self._feeds[run] = feed, asyncio.create_task(feed.following(), name=f"feed: {run}")
        feed.idle_since = time.monotonic()
        if not feed.state:
            try:
                await feed.look()
            except Gone:
                self._drop(run, feed)
                raise
        return feed

    async def hear(self) -> None:
        """Do what the bus says, for ever."""
        async with self.control.bus.listening() as woken:
            async for run in woken:
                if run in self._feeds:
                    self._feeds[run][0].nudge.set()
                if run == ALL_RUNS or self.list_readers:
                    self._tell_list()

    async def poll(self) -> None:
        """Look every second, for ever."""
        while True:
            started = time.monotonic()
            try:
                await self._look()
                self.as_of = time.time()
            except StoreError as error:
                log.warning("readers of events wait for the database: %s", error)
            except Exception:
                log.exception("the poll for events has failed, and goes on")
            await asyncio.sleep(max(POLL_SECONDS - (time.monotonic() - started), 0.05))

    async def _look(self) -> None:
        now = time.monotonic()
        for run, (feed, _) in list(self._feeds.items()):
            if feed.readers:
                feed.idle_since = now
            elif now - feed.idle_since > KEPT_SECONDS or feed.gone:
                self._drop(run, feed)
        async with self.control.database.read() as connection:
            name = await connection.scalar(select(logs.c.name))
            rows = await connection.execute(
                select(runs.c.id, runs.c.last_seq, runs.c.state).where(runs.c.id.in_(list(self._feeds)))
            )
            found = {row.id: (row.last_seq, row.state) for row in rows}
            listed: tuple[int, ...] = self._list_state
            if self.list_readers:
                counts = select(func.count(), func.sum(runs.c.version), func.sum(runs.c.last_seq))
                listed = tuple((await connection.execute(counts)).one())
        if name is None:
            async with self.control.database.write() as connection:
                name = await log_name(connection)
        if name != self.control.log:
            self._begin_anew(name)
            return
        for run, (feed, _) in self._feeds.items():
            if found.get(run) != (feed.last, feed.state):
                feed.nudge.set()
        if listed != self._list_state:
            self._list_state = listed
            self._tell_list()

    def _begin_anew(self, name: str) -> None:
        """The database is another one: what was read of the old one is told to nobody any more."""
        log.warning("the log of events is another one now: readers begin anew")
        self.control.log = name
        self._blocks.clear()
        for run, (feed, _) in list(self._feeds.items()):
            feed.end()
            self._drop(run, feed)
        self._tell_list()

    def _drop(self, run: str, feed: Feed) -> None:
        known = self._feeds.get(run)
        if known and known[0] is feed:
            known[1].cancel()
            del self._feeds[run]

    def _tell_list(self) -> None:
        """Say that the list has changed: now, or as soon as a second has passed since it was said last."""
        if self._list_timer is None:
            wait = max(self._list_said + LIST_SECONDS - time.monotonic(), 0.0)
            self._list_timer = asyncio.get_running_loop().call_later(wait, self._say_list)

    def _say_list(self) -> None:
        self._list_timer = None
        self._list_said = time.monotonic()
        self.list_version += 1
        for wake in self.list_readers:
            wake.set()

    async def end(self) -> None:
        """No more feeds."""
        if self._list_timer:
            self._list_timer.cancel()
        tasks = [task for _, task in self._feeds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._feeds.clear()


@contextlib.asynccontextmanager
async def feeding(control: Control) -> AsyncIterator[Feeds]:
    """The feeds of a process, woken as long as it lives."""
    feeds = Feeds(control)
    tasks = [
        asyncio.create_task(feeds.hear(), name="feeds: hear"),
        asyncio.create_task(feeds.poll(), name="feeds: poll"),
    ]
    try:
        yield feeds
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await feeds.end()
