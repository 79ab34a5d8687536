"""Measures every request by its route template, and counts the WebSockets that are open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from ..meters import Meters

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NOWHERE = "none"
"""The route of what no route is for: its address is the asker's, and would be a series for each."""


class Measured:
    """The application, measured."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, and look at the answer."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status, seconds = time.perf_counter(), 500, None

        async def seen(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route, meters = route_of(scope), meters_of(scope)
            if seconds is not None:
                meters.latency.labels(method, route).observe(seconds)
            meters.requests.labels(method, route, str(status)).inc()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened = False

        async def seen(message: Message) -> None:
            nonlocal opened
            if message["type"] == "websocket.accept" and not opened:
                opened = True
                meters_of(scope).websockets.inc()
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            if opened:
                meters_of(scope).websockets.dec()


def route_of(scope: Scope) -> str:
    """The template of the route that has answered."""
    return str(getattr(scope.get("route"), "path", "") or NOWHERE)


def meters_of(scope: Scope) -> Meters:
    """Those of the process that answers."""
    return cast("Meters", scope["app"].state.control.meters)
