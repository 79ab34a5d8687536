"""The second layer: Redis, which all replicas share. Each digest is one hash of its views, gone an hour after the last one.

Where Redis does not answer, the layer is passed over, and tried again a few seconds later. Its statistics say so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from typing import Any, cast

import redis.asyncio
from redis.exceptions import RedisError

from ..tls import of_redis
from .key import Key, sealed, unsealed

log = logging.getLogger("forge.control")

PREFIX = "forge:cache:"
SECONDS = 0.5
"""That an answer may take: computing anew takes not much longer."""
PAUSE = 5.0
"""Seconds for which a Redis that has not answered is left alone."""
LARGEST = 4 << 20
"""Bytes of a value: what is larger stays with whoever computed it."""


class Remote:
    """Entries in Redis.

    :param url: redis:// or rediss://.
    :param kept: seconds after which a digest that nothing is added to is gone.
    """

    def __init__(self, url: str, kept: float) -> None:
        self.kept = max(1, int(kept))
        self.errors = 0
        self._pause_until = 0.0
        self._client = redis.asyncio.from_url(
            url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=None, **of_redis(url)
        )

    @property
    def paused(self) -> bool:
        """Whether it has failed a moment ago."""
        return time.monotonic() < self._pause_until

    async def get(self, key: Key) -> bytes | None:
        """The value; None where there is none, it is damaged, or Redis does not answer."""
        data = await self._answer(cast(Awaitable[Any], self._client.hget(PREFIX + key.digest, key.name)))
        return unsealed(key, data) if data is not None else None

    async def put(self, key: Key, value: bytes) -> None:
        """Keep a value."""
        if len(value) > LARGEST:
            return
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hset(PREFIX + key.digest, key.name, cast(str, sealed(key, value)))
        pipeline.expire(PREFIX + key.digest, self.kept)
        await self._answer(pipeline.execute())

    async def forget(self, digest: str) -> None:
        """Drop every view of a digest."""
        await self._answer(self._client.delete(PREFIX + digest))

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def _answer(self, asked: Awaitable[Any]) -> Any:
        if self.paused:
            close = getattr(asked, "close", None)
            if close is not None:
                close()
            return None
        try:
            return await asked
        except (RedisError, OSError, TimeoutError) as error:
            self.errors += 1
            self._pause_until = time.monotonic() + PAUSE
            log.warning("the cache in Redis does not answer and is passed over for %.0f s: %s", PAUSE, error)
            return None
