"""Whoever is sent something and does not take it: closed with a reason, and free to resume where they were."""

from __future__ import annotations

from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SLOW_SECONDS = 60.0
"""A reader that takes nothing for so long is closed."""

LAST_SECONDS = 10.0
"""What lies before one that is closed stays there so long."""


class ClosingProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, with an end to those that do not read; uvicorn waits for them to read that they shall go."""

    @override
    async def send(self, message: Any) -> None:
        if cast(str, message["type"]) == "websocket.close" and not self.writable.is_set():
            self.writable.set()  # the reason lies behind what has not been read
            self.loop.call_later(LAST_SECONDS, self.transport.abort)
        await super().send(message)
