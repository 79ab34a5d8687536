"""An assistant, by the protocol's own client: in this process, or over HTTP to the whole application."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from pipelines.control.api import mcp as route
from pipelines.control.api.app import application
from pipelines.control.auth import keys, principals
from pipelines.control.auth.rights import Principal, Role
from pipelines.control.context import Control
from pipelines.control.mcp.server import server_of


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """One kind alone: what the tools ask is tested on both with the services; the confirmations are, in test_tools."""
    (tmp_path / "database").mkdir()
    shutil.copyfile(sqlite_template, tmp_path / "database" / "control.db")
    return f"sqlite:///{tmp_path}/database/control.db"


Assistant = Callable[[Principal], AbstractAsyncContextManager[Client]]


@pytest.fixture
def assistant(control: Control) -> Assistant:
    """`async with assistant(ALICE) as client`: calls as this principal, in this process."""

    @asynccontextmanager
    async def connected(who: Principal) -> AsyncIterator[Client]:
        async with Client(server_of(control, who)) as client:
            yield client

    return connected


@pytest.fixture
async def application_of(control: Control) -> AsyncIterator[Any]:
    app = application(control.settings)
    app.state.control = control
    async with route.serving(app):
        yield app


@pytest.fixture
def over_http(application_of: Any) -> Callable[..., AbstractAsyncContextManager[Client]]:
    """`async with over_http({"X-API-Key": key}) as client`: by `/mcp` of the whole application."""

    @asynccontextmanager
    async def connected(headers: dict[str, str]) -> AsyncIterator[Client]:
        transport = httpx2.ASGITransport(app=application_of)
        async with (
            httpx2.AsyncClient(transport=transport, headers=headers) as http,
            Client(streamable_http_client("http://localhost/mcp", http_client=http)) as client,
        ):
            yield client

    return connected


@pytest.fixture
def key_of(control: Control) -> Callable[..., Awaitable[str]]:
    async def make(role: Role, name: str, **given: Any) -> str:
        async with control.database.write() as connection:
            owner = await principals.create(connection, name, role)
            return (await keys.make(connection, "key", principal=owner, name="test", **given)).text

    return make
