"""What a bus is, and the one of a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from components.shared.runtime.errors import ConfigError

from ..settings import ControlSettings

ALL_RUNS = ""
"""In the place of a run: the list of runs has changed."""


class Bus(Protocol):
    """Hints from whoever writes events to whoever reads them.

    Hints about the same run that wait for a slow reader are one hint, so nothing grows.
    """

    async def wake(self, run: str) -> None:
        """Say that a run has new events. Never fails, never waits for a reader or a server."""
        ...

    def listening(self) -> contextlib.AbstractAsyncContextManager[AsyncIterator[str]]:
        """The runs that are woken from now on.

        async with bus.listening() as woken:
            async for run in woken: …
        """
        ...

    async def close(self) -> None:
        """Let go of the server, where there is one."""
        ...


def bus_of(settings: ControlSettings) -> Bus:
    """Redis where the settings name one, else within this process."""
    if settings.redis_url:
        from .redis import RedisBus

        try:
            return RedisBus(settings.redis_url)
        except ValueError as error:
            raise ConfigError(
                "the address of Redis cannot be understood", where="REDIS_URL", why=str(error),
                fix="give redis://host:6379/0 or rediss://…",
            ) from None  # fmt: skip
    from .memory import MemoryBus

    return MemoryBus()
