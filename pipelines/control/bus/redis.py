"""A bus over all processes that share a Redis, which keeps nothing: published, heard or lost.

Hints go to this process' own readers at once. Redis is spoken to by two tasks of its own, which begin again after any
error: so nobody who writes events waits for it, and one that is away costs readers elsewhere their poll's second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from ..tls import of_redis
from .memory import MemoryBus, Pending

log = logging.getLogger("forge.control")

CHANNEL = "forge:events"
ANSWER_SECONDS = 5.0
AGAIN_SECONDS = (0.1, 2.0)
"""How long until the next attempt: at first, and at most."""


class RedisBus:
    """Hints over all processes.

    :param url: redis://… or rediss://…
    """

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            decode_responses=True,
            **of_redis(url),
        )
        self._here = MemoryBus()
        self._unsent = Pending()
        self._tasks: list[asyncio.Task[None]] = []
        self._tried = asyncio.Event()
        self._away = False

    async def wake(self, run: str) -> None:
        """Say that a run has new events. Readers in this process are told at once."""
        self._start()
        await self._here.wake(run)
        self._unsent.add(run)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[str]]:
        """The runs that are woken from now on, by any process; while Redis is away, by this one."""
        self._start()
        await self._tried.wait()  # subscribed, or away: then the poll does it
        async with self._here.listening() as woken:
            yield woken

    async def close(self) -> None:
        """End the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._again_and_again(self._send), name="bus: send"),
                asyncio.create_task(self._again_and_again(self._hear), name="bus: hear"),
            ]

    async def _send(self) -> None:
        runs = await self._unsent.take()
        try:
            await self._redis.publish(CHANNEL, "\n".join(runs))
        except (RedisError, OSError):
            for run in runs:  # those who listen elsewhere are told late rather than never
                self._unsent.add(run)
            raise
        self._answers()

    async def _hear(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=False) as subscription:
            await subscription.subscribe(CHANNEL)
            silent = False
            while True:
                message = await subscription.get_message(timeout=ANSWER_SECONDS)
                if message is None:
                    if silent:  # it has not answered the ping either
                        raise RedisTimeout("no answer")
                    silent = True
                    await subscription.ping()
                    continue
                silent = False
                if message["type"] == "subscribe":
                    self._tried.set()
                    self._answers()
                elif message["type"] == "message":
                    for run in message["data"].split("\n"):
                        await self._here.wake(run)

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        wait, longest = AGAIN_SECONDS
        while True:
            try:
                await work()
                wait = AGAIN_SECONDS[0]
            except (RedisError, OSError) as error:
                self._tried.set()
                if not self._away:
                    self._away = True
                    log.warning("Redis does not answer; readers poll every second: %s", error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, longest)

    def _answers(self) -> None:
        if self._away:
            self._away = False
            log.info("Redis answers again")
