"""The server: uvicorn, with the limits that it has not of itself.

A request's headers have 10 s, an idle connection 30 s, and whoever does not read what is sent to them 60 s. TLS is 1.3 or
newer. The socket is bound before anything else, so that a port that is taken is an error at once and port 0 has a number.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from components.shared.runtime.errors import ConfigError

from .settings import ControlSettings

HEADER_SECONDS = 10.0
READ_SECONDS = 60.0
LAST_SECONDS = 10.0
"""So much longer a WebSocket has that is told why it is closed."""

IDLE_SECONDS = 30
STOP_SECONDS = 5
HEADER_BYTES = 32 << 10
FRAME_BYTES = 64 << 10


class Patience:
    """How long an answer waits for a client that does not read: then the connection is cut."""

    patience: ClassVar[float] = READ_SECONDS
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _cut: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client is not reading."""
        self._cut = self.loop.call_later(self.patience, self.transport.abort)
        super().pause_writing()  # type: ignore[misc]

    def resume_writing(self) -> None:
        """It is again; asyncio calls this at the end too."""
        if self._cut is not None:
            self._cut.cancel()
        super().resume_writing()  # type: ignore[misc]

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)  # type: ignore[misc]


class Http(Patience, H11Protocol):
    """HTTP, with a deadline for the headers of every request."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected, and shall say what they want."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEADER_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Headers, or a body."""
        before = self.scope
        idle = self.cycle is None or self.cycle.response_complete
        if self._late is None and idle:
            self._late = self.loop.call_later(HEADER_SECONDS, self.transport.abort)
        super().data_received(data)
        if self.scope is not before and self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        """They have gone."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)


class WebSocket(Patience, WebSocketsSansIOProtocol):
    """WebSockets. Who does not read is told that they are closed behind what they have not read: uvicorn waits for them."""

    patience: ClassVar[float] = READ_SECONDS + LAST_SECONDS

    async def send(self, message: Any) -> None:
        """Send something, as soon as there is room; that it is over, at once."""
        if message["type"] == "websocket.close":
            self.writable.set()
        await super().send(message)


def bound(settings: ControlSettings) -> socket.socket:
    """A socket that listens where the settings say.

    :raises ConfigError: the address is none of ours, or is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        taken = error.errno == errno.EADDRINUSE
        raise ConfigError(
            "the server cannot listen here",
            where=f"{settings.host}:{settings.port}",
            why="another process does" if taken else str(error.strerror or error),
            fix="choose another with --port; 0 takes one that is free"
            if taken
            else "give an address of this machine",
        ) from None
    return listening


def address(settings: ControlSettings, listening: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    host, port = listening.getsockname()[:2]
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.certificate else 'http'}://{shown}:{port}"


def config(app: FastAPI, settings: ControlSettings) -> uvicorn.Config:
    """How uvicorn serves an application."""
    made = uvicorn.Config(
        app,
        loop="auto",
        http=Http,
        ws=WebSocket,
        ws_max_size=FRAME_BYTES,
        ws_ping_timeout=READ_SECONDS,
        ws_per_message_deflate=False,  # a compressor for each of a thousand sockets is memory for little
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        server_header=False,
        access_log=False,
        log_config=None,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.certificate_key,
    )
    made.load()
    made.lifespan_class = Life
    if isinstance(made.ssl, ssl.SSLContext):
        made.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


class Life(LifespanOn):
    """The start and end of an application. What keeps it from starting is raised by the server, and no text in its log."""

    async def send(self, message: Any) -> None:
        """What the application says of it."""
        message.pop("message", None)
        await super().send(message)


class Server(uvicorn.Server):
    """A server that says when it answers.

    :param ready: called then; what it raises ends the server.
    """

    def __init__(self, made: uvicorn.Config, ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__(made)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        try:
            await super().startup(sockets)
        except SystemExit:
            fault = getattr(getattr(self.config.app, "state", None), "fault", None)
            if isinstance(fault, BaseException):
                raise fault from None
            raise
        if self.started:
            await self._ready()


def serve(app: FastAPI, settings: ControlSettings, ready: Callable[[str], Awaitable[None]]) -> None:
    """Serve an application until a signal ends it.

    :param ready: called with the server's address once it answers.
    :raises ConfigError: it cannot listen there.
    """
    with contextlib.closing(bound(settings)) as listening:
        where = address(settings, listening)
        server = Server(config(app, settings), lambda: ready(where))
        with _quiet_interrupt():
            server.run([listening])


@contextlib.contextmanager
def _quiet_interrupt() -> Iterator[Any]:
    """Uvicorn raises the signal again after it has ended well."""
    with contextlib.suppress(KeyboardInterrupt):
        yield
