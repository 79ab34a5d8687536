"""The page: the built dashboard, and what it asks first: where the API is.

Its files are known by their names, which are looked up and never joined to a path. Those below /assets/ carry their digest
in their name and are kept for ever; the page itself and its configuration are asked for each time.
"""

from __future__ import annotations

import gzip
import mimetypes
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.guard import public
from ..auth.rate import Limiter
from ..errors import not_found
from ..settings import API_PORT, ControlSettings
from . import errors
from .middleware import answer_headers

router = APIRouter(tags=["page"], include_in_schema=False)

DIST = Path(__file__).parents[1] / "dashboard" / "dist"

FOR_EVER = "public, max-age=31536000, immutable"
PACKED = ("text/", "image/svg", "application/json", "application/javascript")

NOT_BUILT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Agent Forge</title></head>
<body><h1>The page is not built</h1><p>In a checkout, <code>make dashboard</code> builds it; an installed wheel carries it.
The API answers all the same.</p></body></html>
"""


def built() -> int:
    """When the page was built, in nanoseconds; 0 where it is not. It may be built anew while the server runs."""
    try:
        return (DIST / "index.html").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@lru_cache(maxsize=1)
def names(when: int) -> dict[str, Path]:
    """The files of the page as it was built then, by their place in it."""
    return {path.relative_to(DIST).as_posix(): path for path in DIST.rglob("*") if when and path.is_file()}


@lru_cache(maxsize=200)
def content(path: Path, when: int) -> tuple[bytes, bytes, str]:
    """A file of the page as it was built then, the same packed, and its type."""
    plain = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    packed = gzip.compress(plain, 9, mtime=0) if kind.startswith(PACKED) else b""
    return plain, packed, kind


def answer(request: Request, name: str, keep: str) -> Response:
    """A file of the page.

    :raises Refused: there is none of this name: 404.
    """
    when = built()
    if not when and name == "index.html":
        return HTMLResponse(NOT_BUILT, 503)
    path = names(when).get(name)
    if path is None:
        raise not_found("the page has no such file", "path", "" if when else "build it: make dashboard")
    plain, packed, kind = content(path, when)
    headers = {"Cache-Control": keep, "Vary": "Accept-Encoding"}
    if packed and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(plain, media_type=kind, headers=headers)


@router.get("/", dependencies=[public])
@router.get("/ui", dependencies=[public])
@router.get("/ui/{path:path}", dependencies=[public])
async def page(request: Request, path: str = "") -> Response:
    """The page, at every address that is its own."""
    return answer(request, "index.html", "no-store")


@router.get("/assets/{name}", dependencies=[public])
async def asset(request: Request, name: str) -> Response:
    """A part of the page."""
    return answer(request, f"assets/{name}", FOR_EVER)


@router.get("/favicon.svg", dependencies=[public])
async def favicon(request: Request) -> Response:
    """The page's sign."""
    return answer(request, "favicon.svg", "public, max-age=86400")


@router.get("/config.json", dependencies=[public])
async def configuration(request: Request) -> JSONResponse:
    """Where the API is; empty where it is here."""
    settings: ControlSettings = request.app.state.settings
    return JSONResponse({"api": settings.api_url}, headers={"Cache-Control": "no-store"})


class Headers:
    """Gives every answer the headers that the API's answers have."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self.app = app
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] += [header for header in self.headers if header[0] not in given]
            await send(message)

        await self.app(scope, receive, sending)


@dataclass(frozen=True)
class Alone:
    """What a process has that serves the page and nothing else: who asks too much is counted here too."""

    limiter: Limiter = field(default_factory=Limiter)


def alone(settings: ControlSettings) -> FastAPI:
    """The page and nothing else: it has no database, and its API is elsewhere."""
    api = settings.api_url or f"http://localhost:{API_PORT}"
    settings = settings.model_copy(update={"api_url": api})
    without: dict[str, Any] = {"openapi_url": None, "docs_url": None, "redoc_url": None}
    app = FastAPI(title="Agent Forge", **without)
    app.state.settings = settings
    app.state.control = Alone()
    errors.install(app)
    app.add_middleware(Headers, headers=answer_headers(settings))
    app.include_router(router)
    return app
