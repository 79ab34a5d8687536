"""The application: its routers, which are the modules of this folder, and the rule that every route says who may ask."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from ..auth.guard import unguarded
from ..background import working
from ..context import Control, opened
from ..monitoring.requests import Measured
from ..settings import ControlSettings
from . import errors

MAX_BODY = 1 << 20
"""Bytes of a request's body: larger ones are refused with 413."""


def control_of(connection: HTTPConnection) -> Control:
    """The process that answers."""
    control: Control = connection.app.state.control
    return control


Here = Annotated[Control, Depends(control_of)]


def application(settings: ControlSettings) -> FastAPI:
    """The API of a process with these settings."""

    @contextlib.asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings) as control:
            app.state.control = control
            async with working(control):
                yield

    app = FastAPI(title="Agent Forge API", version="0.1.0", lifespan=living, max_body_size=MAX_BODY)
    errors.install(app)
    app.add_middleware(Measured)
    for module in pkgutil.iter_modules(__import__(__package__, fromlist=["_"]).__path__):
        router = getattr(importlib.import_module(f"{__package__}.{module.name}"), "router", None)
        if router is not None:
            app.include_router(router)
    if forgotten := unguarded(app):
        raise RuntimeError(f"routes without a right: {', '.join(forgotten)}")
    return app
