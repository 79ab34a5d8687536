"""Heavy work of a process, one at a time: who comes while too many wait is told to come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from .errors import Refused


class Turns:
    """A queue in front of what only one may do at a time.

    :param limit: so many may wait.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting = 0
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self, what: str) -> AsyncIterator[None]:
        """Inside the block nobody else is.

        :param what: is done, for who is sent away.
        :raises Refused: too many wait: 503.
        """
        if self.waiting >= self.limit:
            raise Refused(
                503, f"too many wait to {what}", why=f"{self.waiting} are before you", fix="ask again a little later",
                headers={"Retry-After": "10"},
            )  # fmt: skip
        self.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._lock.release()
