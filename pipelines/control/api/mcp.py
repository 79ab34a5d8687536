"""`/mcp`: the MCP server over stateless HTTP, for clients that bring a key or a token as to any other route."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..auth.guard import asker
from ..errors import Refused
from ..mcp.server import server_of
from . import errors


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[None]:
    """The server's own tasks, as long as the API goes on."""
    server = server_of(app.state.control)
    # Host and Origin have been looked at before, by the gate that every request passes (origins.py).
    server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    async with server.session_manager.run():
        app.state.mcp = server.session_manager
        yield


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
        await scope["app"].state.mcp.handle_request(scope, receive, send)


router = APIRouter(lifespan=serving)
ROUTE = Route("/mcp", Endpoint(), include_in_schema=False)
router.routes.append(ROUTE)
