"""What stands before a route: who asks is found out, and whether they may.

    @router.get("/phases/runs", dependencies=[right("phases", "read")])
    async def runs(here: Here, who: Asker) -> …

A route without a right that is neither `public` nor for everyone who is `known` does not start: `unguarded` finds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts
from starlette.requests import HTTPConnection

from ..errors import Refused
from .rate import FILES, LOGINS, Limiter, network
from .rights import Action, Principal, Resource

HEALTH = ("/healthz", "/readyz")
"""Paths that are answered however often they are asked, by whatever name."""

Finder = Callable[[HTTPConnection], Awaitable[Principal]]
"""Finds out who asks. Raises where nobody is known: 401."""


class Guard:
    """The right that a route needs."""

    def __init__(self, resource: Resource, action: Action) -> None:
        self.resource = resource
        self.action = action

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Who asks.

        :raises Refused: nobody that is known (401), or somebody who may not (403).
        """
        who = await asker(connection)
        if not who.may(self.resource, self.action):
            raise Refused(
                403,
                "this is not yours to do",
                where=f"{self.resource}:{self.action}",
                why=f"{who.name or 'you'} is {who.role}",
                fix="ask an admin for a role or a key that may",
            )
        return who


def right(resource: Resource, action: Action) -> Any:
    """A dependency of a route: who asks must have this right."""
    return Depends(Guard(resource, action))


async def anyone(connection: HTTPConnection) -> None:
    """Marks a route that is for everyone; requests count against their address, but those about health.

    :raises Refused: too many (429).
    """
    if connection.scope["path"] not in HEALTH:
        await _counted(connection, "public", FILES)


async def anyone_rarely(connection: HTTPConnection) -> None:
    """Marks a route by which one signs in.

    :raises Refused: too many attempts (429).
    """
    await _counted(connection, "login", LOGINS)


async def anyone_known(connection: HTTPConnection) -> Principal:
    """Marks a route that is for everyone who is known, whatever they may.

    :raises Refused: nobody is known (401).
    """
    return await asker(connection)


async def _counted(connection: HTTPConnection, bucket: str, a_minute: int) -> None:
    limiter = cast(Limiter, connection.app.state.control.limiter)
    await limiter.take(f"{bucket}:{network(connection.client.host if connection.client else '')}", a_minute)


public = Depends(anyone)
login = Depends(anyone_rarely)
known = Depends(anyone_known)

MARKS = (anyone, anyone_rarely, anyone_known)


async def asker(connection: HTTPConnection) -> Principal:
    """Who asks; found out once a request."""
    known = getattr(connection.state, "principal", None)
    if known is None:
        find = cast(Finder, connection.app.state.find_principal)
        known = connection.state.principal = await find(connection)
    return cast(Principal, known)


Asker = Annotated[Principal, Depends(asker)]


THEMSELVES = ("/mcp",)
"""Paths of what is no route of ours: the MCP server asks for itself."""


def right_of(route: RouteContext) -> Guard | None:
    """The right that a route needs; None for one that is for everyone, or has forgotten it."""
    return next((call for call in _stands_before(route) if isinstance(call, Guard)), None)


def routes(app: FastAPI) -> list[RouteContext]:
    """All routes, those of included routers too."""
    return list(iter_route_contexts(app.routes))


def unguarded(app: FastAPI) -> list[str]:
    """The routes that say neither which right they need nor that they are for everyone."""
    return [
        str(route.path)
        for route in routes(app)
        if route.path not in THEMSELVES
        and right_of(route) is None
        and not any(call in MARKS for call in _stands_before(route))
    ]


def _stands_before(route: RouteContext) -> list[Any]:
    if not isinstance(route.original_route, APIRoute | APIWebSocketRoute):
        return []
    return [dependency.call for dependency in route.dependant.dependencies]
