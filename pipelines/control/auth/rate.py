"""How often somebody may ask: a window that moves, in memory or, over all replicas, in Redis.

Where Redis does not answer, each replica counts for itself until it does: the limit is then one of each replica.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from ..errors import Refused
from ..tls import of_redis

log = logging.getLogger("forge.control")

LOGINS = 5
"""Attempts a minute of an address to sign in."""

EVENTS = 1200
"""Batches of events a minute of one run: eight pods that push every second fit in twice."""

FILES = 600
"""Files of the page, and other things that are for everyone, a minute of an address."""

REDIS_SECONDS = 0.5
REDIS_PAUSE = 5.0


class Limiter:
    """Counts requests.

    :param redis_url: where all replicas count together; empty: this process counts alone.
    """

    def __init__(self, redis_url: str = "") -> None:
        self._alone = MovingWindowRateLimiter(MemoryStorage())
        self._together: MovingWindowRateLimiter | None = None
        self._alone_until = 0.0
        if redis_url:
            self._together = MovingWindowRateLimiter(
                RedisStorage(
                    f"async+{redis_url}",
                    wrap_exceptions=True,
                    implementation="redispy",
                    key_prefix="forge-limits",
                    socket_timeout=REDIS_SECONDS,
                    socket_connect_timeout=REDIS_SECONDS,
                    **of_redis(redis_url),
                )
            )

    async def take(self, bucket: str, a_minute: int) -> None:
        """Count one request.

        :param bucket: of whom: `principal:<id>`, `address:<ip>`, …
        :raises Refused: 429, with the seconds after which one more is free.
        """
        item = RateLimitItemPerMinute(a_minute)
        if self._together is not None and time.monotonic() >= self._alone_until:
            try:
                return await self._counted(self._together, item, bucket)
            except StorageError as error:
                self._alone_until = time.monotonic() + REDIS_PAUSE
                log.warning("redis does not answer, so this process counts requests alone: %s", error)
        await self._counted(self._alone, item, bucket)

    @staticmethod
    async def _counted(window: MovingWindowRateLimiter, item: RateLimitItemPerMinute, bucket: str) -> None:
        if await window.hit(item, bucket):
            return
        stats = await window.get_window_stats(item, bucket)
        seconds = min(60, max(1, math.ceil(stats.reset_time - time.time())))
        raise Refused(
            429,
            "too many requests",
            why=f"{item.amount} a minute are allowed",
            fix=f"wait {seconds} s",
            headers={"Retry-After": str(seconds)},
        )


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64, since one machine has all of it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if ip.version == 6 and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(getattr(ip, "ipv4_mapped", None) or ip)
