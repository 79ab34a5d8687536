"""The application: its routers, which are the modules of this folder, and the rule that every route says who may ask."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import pkgutil
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response
from starlette.requests import HTTPConnection

from ..auth.credentials import find_principal
from ..auth.guard import public, unguarded
from ..background import working
from ..context import Control, opened
from ..monitoring.requests import Measured
from ..monitoring.traces import Traces
from ..services.feeds import Feeds, feeding
from ..settings import ControlSettings
from . import errors, middleware

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": errors.Problem, "description": text}
    for status, text in {
        400: "The request is none.",
        401: "Nobody that is known asks.",
        403: "Who asks may not, or a foreign page asks.",
        404: "There is no such thing, or it is not for who asks.",
        408: "The body did not come.",
        409: "What is there now does not allow it.",
        413: "The body is larger than 1 MiB.",
        421: "This server does not go by that name.",
        422: "The request does not fit.",
        429: "Too many requests; Retry-After says how many seconds to wait.",
        503: "The database or the store does not answer.",
    }.items()
}
"""What any route may answer beside what it says itself."""


def control_of(connection: HTTPConnection) -> Control:
    """The process that answers."""
    control: Control = connection.app.state.control
    return control


def feeds_of(connection: HTTPConnection) -> Feeds:
    """The runs that are watched here."""
    feeds: Feeds = connection.app.state.feeds
    return feeds


Here = Annotated[Control, Depends(control_of)]
Fed = Annotated[Feeds, Depends(feeds_of)]


def application(settings: ControlSettings) -> FastAPI:
    """The API of a process with these settings; of the role `page` the page alone."""
    if settings.role == "page":
        from .page import alone

        return alone(settings)

    @contextlib.asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with opened(settings) as control, feeding(control) as feeds:
                app.state.control = control
                app.state.feeds = feeds
                async with working(control):
                    yield
        except BaseException as error:
            app.state.fault = error  # the server's logger has only its text
            raise
        finally:
            await traces.close()

    traces = Traces(settings)
    app = FastAPI(
        title="Agent Forge API",
        version="0.1.0",
        lifespan=living,
        telemetry=traces.config,
        openapi_url=None,  # an own route, below: made once, and counted
        docs_url=None,
        redoc_url=None,
        responses=RESPONSES,
    )
    app.state.settings = settings
    app.state.find_principal = find_principal
    errors.install(app)
    middleware.install(app, settings)
    app.add_middleware(Measured)
    for module in pkgutil.iter_modules(__import__(__package__, fromlist=["_"]).__path__):
        router = getattr(importlib.import_module(f"{__package__}.{module.name}"), "router", None)
        if router is not None:
            app.include_router(router)
    _describe(app)
    if forgotten := unguarded(app):
        raise RuntimeError(f"routes without a right: {', '.join(forgotten)}")
    return app


def _describe(app: FastAPI) -> None:
    """The API's description for everyone: encoded once, since it is long and nobody has to say who they are."""
    encoded = functools.cache(lambda: json.dumps(app.openapi()).encode())

    @app.get("/openapi.json", include_in_schema=False, dependencies=[public])
    async def described() -> Response:
        return Response(encoded(), media_type="application/json")
