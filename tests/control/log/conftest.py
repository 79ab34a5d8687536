"""A served API on a port of loopback, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from pipelines.control.api.app import application
from pipelines.control.auth.principals import KEY_FILE
from pipelines.control.context import Control
from pipelines.control.server import Server, address, bound, config
from pipelines.control.services.feeds import Feeds
from pipelines.control.settings import ControlSettings

SECONDS = 30.0


@dataclass
class Served:
    """A replica.

    :param url: of its API.
    """

    app: FastAPI
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def control(self) -> Control:
        control: Control = self.app.state.control
        return control

    @property
    def feeds(self) -> Feeds:
        feeds: Feeds = self.app.state.feeds
        return feeds

    @contextlib.asynccontextmanager
    async def socket(self, client: str = "test", **more: Any) -> AsyncIterator[ClientConnection]:
        """A WebSocket, its greeting read."""
        address = f"{self.url.replace('http', 'ws')}/ws/{client}"
        async with connect(address, additional_headers=self.headers, compression=None, **more) as socket:
            hello = await said(socket)
            assert hello == {"type": "hello", "log": self.control.log, "client": client}
            yield socket


@contextlib.asynccontextmanager
async def serving(settings: ControlSettings) -> AsyncIterator[Served]:
    """A replica with these settings, as long as it is wanted."""
    asked = settings.model_copy(update={"port": 0, "rate_limit": 1_000_000})
    app = application(asked)
    answers = asyncio.Event()

    async def ready() -> None:
        answers.set()

    with contextlib.closing(bound(asked)) as listening:
        made = config(app, asked)
        made.timeout_graceful_shutdown = 1
        server = Server(made, ready)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve([listening]))
        await asyncio.wait([task, asyncio.create_task(answers.wait())], return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task.result()
        key = (asked.folder / KEY_FILE).read_text().strip()
        try:
            yield Served(app, address(asked, listening), {"X-API-Key": key})
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def served(settings: ControlSettings) -> AsyncIterator[Served]:
    async with serving(settings) as replica:
        yield replica


async def said(socket: ClientConnection) -> dict[str, Any]:
    """The next message that is no ping."""
    async with asyncio.timeout(SECONDS):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] != "ping":
                return message


async def subscribe(socket: ClientConnection, runs: dict[str, int], **more: Any) -> None:
    await socket.send(json.dumps({"subscribe": runs, **more}))


async def numbers(socket: ClientConnection, until: int) -> list[int]:
    """The numbers of the events that come, up to one."""
    found: list[int] = []
    while not found or found[-1] < until:
        message = await said(socket)
        if message["type"] == "events":
            found += [event["seq"] for event in message["events"]]
            assert message["last"] >= found[-1]
    return found
