"""The gate that every request passes: its id, where it comes from, its body, the audit, the answer's headers, the log.

    {"request": "…", "method": "POST", "route": "/phases/execute", "status": 202, "ms": 12.3, "principal": "…"}

The line has the route's template and no values: neither paths nor queries, in which people put what they should not.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.shared.runtime.errors import StoreError

from ..about import about
from ..auth import audit
from ..auth.rate import network
from ..errors import Refused
from ..settings import ControlSettings
from . import bodies, errors, origins

access = logging.getLogger("forge.access")
log = logging.getLogger("forge.control")

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
REFUSED = (401, 403, 421)
OF_THEMSELVES = ("/mcp",)
"""Routes whose every request is a POST: what changes something there is written down by the tool that does it."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")

ASKED_HEADERS = [
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "If-Match",
    "Idempotency-Key",
    "Last-Event-ID",
    "X-Request-ID",
]
TOLD_HEADERS = ["ETag", "Retry-After", "X-Request-ID", "Location"]


def install(app: FastAPI, settings: ControlSettings) -> None:
    """Put the gate before an application."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.origins),
        allow_credentials=True,
        allow_methods=["GET", "HEAD", "OPTIONS", *CHANGING],
        allow_headers=ASKED_HEADERS,
        expose_headers=TOLD_HEADERS,
        max_age=600,
    )
    app.add_middleware(Gate, settings=settings)


class Gate:
    """The gate.

    :param app: what stands behind it.
    """

    def __init__(self, app: ASGIApp, settings: ControlSettings) -> None:
        self.app = app
        self.settings = settings
        self.headers = answer_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        given = bodies.header(scope, b"x-request-id")
        state["request_id"] = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                await self._audit(scope, status)
                self._name(scope, MutableHeaders(raw=message.setdefault("headers", [])))
            elif message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.close" and not status:
                status = 403
                await self._audit(scope, status)
            await send(message)

        try:
            with about(request=state["request_id"]):
                await self._pass(scope, receive, sending)
        except Exception:
            log.exception("a request has failed", extra={"request": state["request_id"]})
            if not status and scope["type"] == "http":
                await errors.failed(Request(scope))(scope, receive, sending)
            status = status if status and scope["type"] == "http" else 500
            if scope["type"] == "websocket":
                raise
        finally:
            self._say(scope, status, (time.perf_counter() - began) * 1000)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._check(scope)
            if scope["type"] == "http" and _has_body(scope):
                body = await bodies.read(scope, receive)
                if _is_json(scope) and body:
                    bodies.check_json(body)
                receive = bodies.again(body, receive)
        except Refused as refused:
            await errors.refused(scope, refused)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """:raises Refused: it comes from where it may not, or its address has what no address has."""
        refused = origins.refusal(self.settings, scope)
        if refused is None and (b"%00" in scope.get("raw_path", b"") or b"%00" in scope["query_string"]):
            refused = Refused(400, "an address has no character NUL in it", where="path or query")
        if refused is not None:
            await scope["app"].state.control.limiter.take(
                f"unknown:{_address(scope)}", self.settings.rate_limit
            )
            raise refused

    async def _audit(self, scope: Scope, status: int) -> None:
        """Write down what changes something or is refused, before it is answered."""
        who = scope["state"].get("principal")
        changes = (
            scope["type"] == "http" and scope["method"] in CHANGING and template(scope) not in OF_THEMSELVES
        )
        if status not in REFUSED and not (changes and status != 429 and (who is None or who.role != "run")):
            return
        named = scope.get("path_params", {})
        try:
            async with scope["app"].state.control.database.write() as connection:
                await audit.record(
                    connection,
                    who,
                    f"{scope.get('method', 'WEBSOCKET')} {template(scope)}",
                    " ".join(str(value) for value in named.values()),
                    outcome=str(status),
                    request_id=scope["state"]["request_id"],
                    address=_address(scope),
                )
        except StoreError as error:
            log.error("the audit could not be written: %s", error)

    def _name(self, scope: Scope, headers: MutableHeaders) -> None:
        """The headers that every answer has."""
        headers["X-Request-ID"] = scope["state"]["request_id"]
        for name, value in self.headers.items():
            headers.setdefault(name, value)
        if scope["scheme"] in ("https", "wss"):
            headers["Strict-Transport-Security"] = "max-age=31536000"

    def _say(self, scope: Scope, status: int, ms: float) -> None:
        who = scope["state"].get("principal")
        line: dict[str, Any] = {
            "request": scope["state"]["request_id"],
            "method": scope.get("method", "WEBSOCKET"),
            "route": template(scope),
            "status": status,
            "ms": round(ms, 1),
            "principal": who.id if who else "",
        }
        access.info(json.dumps(line))


def answer_headers(settings: ControlSettings) -> dict[str, str]:
    """The headers that every answer has, unless the route gives its own."""
    asks = ["'self'"]
    if settings.api_url:
        parts = urlsplit(settings.api_url)
        asks += [f"{parts.scheme}://{parts.netloc}", origins.socket_of(settings.api_url)]
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "manifest-src": "'self'",
        "worker-src": "'self'",
        "connect-src": " ".join(asks),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }


def template(scope: Scope) -> str:
    """A route's path, with names in place of values; empty where there is no such route."""
    return str(getattr(scope.get("route"), "path", ""))


def _address(scope: Scope) -> str:
    return network((scope.get("client") or ("",))[0])


def _has_body(scope: Scope) -> bool:
    return bool(bodies.header(scope, b"transfer-encoding")) or bodies.header(
        scope, b"content-length"
    ) not in (b"", b"0")


def _is_json(scope: Scope) -> bool:
    kind = bodies.header(scope, b"content-type").partition(b";")[0].strip().lower()
    encoded = bodies.header(scope, b"content-encoding")
    return (not kind or kind == b"application/json" or kind.endswith(b"+json")) and not encoded
