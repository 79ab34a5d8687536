"""`/mcp`: the MCP server over stateless HTTP, for clients that bring a key or a token as to any other route.

Its packages are a quarter of all that a process would load at its start, so they are loaded when it is first asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..auth.guard import asker
from ..errors import Refused
from . import errors

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


class Asked:
    """The server, which begins when it is first asked.

    :param app: the application that it is part of.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._wanted = asyncio.Event()
        self._manager: asyncio.Future[StreamableHTTPSessionManager] = (
            asyncio.get_running_loop().create_future()
        )

    async def manager(self) -> StreamableHTTPSessionManager:
        """What answers requests."""
        self._wanted.set()
        return await asyncio.shield(self._manager)

    async def serve(self) -> None:
        """Wait until it is asked, then keep the server's own tasks going."""
        await self._wanted.wait()
        try:
            manager = await asyncio.to_thread(_made, self._app)
            async with manager.run():
                self._manager.set_result(manager)
                await asyncio.Event().wait()
        except Exception as error:
            if self._manager.done():
                raise
            self._manager.set_exception(error)


def _made(app: FastAPI) -> StreamableHTTPSessionManager:
    from mcp.server.transport_security import TransportSecuritySettings

    from ..mcp.server import server_of

    server = server_of(app.state.control)
    # Host and Origin have been looked at before, by the gate that every request passes (origins.py).
    server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return server.session_manager


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[None]:
    """The server's own tasks, as long as the API goes on."""
    app.state.mcp = asked = Asked(app)
    task = asyncio.create_task(asked.serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


NO_STREAM = Refused(
    405,
    "only POST is answered here",
    where="/mcp",
    why="the server keeps no sessions: it has none to end, and never speaks first, so that a stream would only stay open",
    fix="send each message as a POST, as the protocol says",
    headers={"Allow": "POST"},
)


class Endpoint:
    """Finds out who asks, and lets the MCP server answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope["route"] = ROUTE  # what the audit and the log call it
        try:
            await asker(HTTPConnection(scope))
        except Refused as refused:
            await errors.refused(scope, refused)(scope, receive, send)
            return
        if scope["method"] != "POST":
            await errors.refused(scope, NO_STREAM)(scope, receive, send)
            return
        manager = await scope["app"].state.mcp.manager()
        await manager.handle_request(scope, receive, send)


router = APIRouter(lifespan=serving)
ROUTE = Route("/mcp", Endpoint(), include_in_schema=False)
router.routes.append(ROUTE)
