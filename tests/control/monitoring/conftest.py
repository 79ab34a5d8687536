"""A process of the control plane whose webhook has a secret, asked without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.control.api.app import application
from pipelines.control.auth import keys, principals
from pipelines.control.auth.rights import Role
from pipelines.control.context import Control
from pipelines.control.settings import ControlSettings

SECRET = "0123456789abcdef0123456789abcdef"

Maker = Callable[..., Awaitable[str]]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> ControlSettings:
    return ControlSettings(
        runs=tmp_path / "runs", database_url=database_url, webhook_secret=SECRET, rate_limit=100_000
    )


@pytest.fixture
async def client(control: Control) -> AsyncIterator[httpx2.AsyncClient]:
    app = application(control.settings)
    app.state.control = control
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
def key_of(control: Control) -> Maker:
    """A new principal's key: `await key_of("viewer")`, also with scopes."""

    async def make(role: Role, **given: Any) -> str:
        async with control.database.write() as connection:
            owner = await principals.create(connection, f"some {role} {keys.secrets.token_hex(4)}", role)
            return (await keys.make(connection, "key", principal=owner, name="test", **given)).text

    return make
