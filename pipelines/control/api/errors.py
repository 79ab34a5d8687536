"""Every answer that is no success: `{what, where, why, fix, request_id}`, and nothing of what was sent.

FastAPI's own answer to a body that does not fit repeats it, and turns NaN and lone surrogates into an error of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Scope

from components.shared.runtime.errors import (
    ArtifactError,
    ConfigError,
    ForgeError,
    InputError,
    LostRace,
    MissingKey,
    StoreError,
    UnsupportedPipeline,
)

from ..errors import Refused

log = logging.getLogger("forge.control")

STATUS: Mapping[type[ForgeError], int] = {
    MissingKey: 404,
    LostRace: 409,
    ConfigError: 422,
    InputError: 422,
    UnsupportedPipeline: 422,
    ArtifactError: 409,
    StoreError: 503,
}


class Problem(BaseModel):
    """What went wrong.

    :param state: where somebody else was faster: what it is now.
    """

    what: str
    where: str = ""
    why: str = ""
    fix: str = ""
    request_id: str = ""
    state: dict[str, Any] | None = None


def install(app: FastAPI) -> None:
    """Answer every error so."""

    @app.exception_handler(ForgeError)
    async def ours(request: Request, error: ForgeError) -> JSONResponse:
        if isinstance(error, Refused):
            return answer(request, error.status, error, state=error.state, headers=error.headers)
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
        if status >= 500:
            log.warning("%s", error)
        headers = {"Retry-After": "5"} if status == 503 else None
        return answer(request, status, error, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'][1:])[:200]}: {problem['msg'][:200]}"
            for problem in error.errors()[:8]
        ]
        where = str(error.errors()[0]["loc"][0]) if error.errors() else "body"
        return answer(
            request,
            422,
            ForgeError("the request does not fit", where=_plain(where), why=_plain("; ".join(problems))),
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(
            request, error.status_code, ForgeError(_plain(str(error.detail))), headers=error.headers
        )


def failed(request: Request) -> JSONResponse:
    """The answer to a request at which the server has failed."""
    return answer(
        request,
        500,
        ForgeError("the server has failed at this", fix="its log has more under the request's id"),
    )


def refused(scope: Scope, error: Refused) -> JSONResponse:
    """The answer to a request, or to a WebSocket's, that is refused before any route is asked."""
    return answer(HTTPConnection(scope), error.status, error, state=error.state, headers=error.headers)


def answer(
    request: HTTPConnection,
    status: int,
    error: ForgeError,
    *,
    state: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer that says an error."""
    problem = Problem(
        what=error.what,
        where=error.where,
        why=error.why,
        fix=error.fix,
        request_id=getattr(request.state, "request_id", ""),
        state=dict(state) if state is not None else None,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers=dict(headers or {}))


def _plain(text: str) -> str:
    """A text that UTF-8 can say."""
    return text.encode("utf-8", "replace").decode()
