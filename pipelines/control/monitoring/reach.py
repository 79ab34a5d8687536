"""Whether what we stand on answers: the object store, Redis, MLflow. Each is asked at most every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.request
from collections.abc import Awaitable, Callable

from components.shared.runtime.errors import ForgeError, StoreError
from components.shared.runtime.store.uri import open_store

from ..meters import Meters
from ..settings import ControlSettings
from ..tls import of_redis

EVERY_SECONDS = 15.0
PATIENCE_SECONDS = 3.0


class Reach:
    """What answers, of what the settings name; what they do not name is not asked after.

    :param meters: a failure is counted in them.
    """

    def __init__(self, settings: ControlSettings, meters: Meters) -> None:
        self._meters = meters
        self._asked = -EVERY_SECONDS
        self._up: dict[str, bool] = {}
        self._probes: dict[str, Callable[[], Awaitable[None]]] = {}
        if settings.store:
            self._probes["store"] = lambda: asyncio.to_thread(_store, settings.store)
        if settings.redis_url:
            self._probes["redis"] = lambda: _redis(settings.redis_url)
        if settings.mlflow_url.startswith(("http://", "https://")):
            self._probes["mlflow"] = lambda: asyncio.to_thread(
                _http, f"{settings.mlflow_url.rstrip('/')}/health"
            )

    async def look(self) -> dict[str, bool]:
        """Of each, whether it answers."""
        if time.monotonic() - self._asked >= EVERY_SECONDS:
            self._asked = time.monotonic()
            answers = await asyncio.gather(*(self._ask(name) for name in self._probes))
            self._up = dict(zip(self._probes, answers, strict=True))
        return dict(self._up)

    async def _ask(self, name: str) -> bool:
        try:
            await asyncio.wait_for(self._probes[name](), PATIENCE_SECONDS)
        except (ForgeError, OSError, TimeoutError, ValueError):
            self._meters.store_errors.labels(name).inc()
            return False
        return True


def _store(address: str) -> None:
    open_store(address).list(".forge-is-there/")


async def _redis(address: str) -> None:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(
        address,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        **of_redis(address),
    )
    try:
        await client.ping()
    except RedisError as error:
        raise StoreError("Redis does not answer", why=str(error)[:200]) from error
    finally:
        await client.aclose()


def _http(address: str) -> None:
    with contextlib.closing(urllib.request.urlopen(address, timeout=PATIENCE_SECONDS)):
        return
