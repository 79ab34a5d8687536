"""The API of one process, asked without a network, and principals with keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.control.api.app import application
from pipelines.control.auth import keys, principals
from pipelines.control.auth.rights import Role
from pipelines.control.context import Control

Maker = Callable[..., Awaitable[str]]


@pytest.fixture
async def http(control: Control) -> AsyncIterator[httpx2.AsyncClient]:
    app = application(control.settings)
    app.state.control = control
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
def key_of(control: Control) -> Maker:
    """A new principal's key: `await key_of("viewer")`, also with scopes and seconds."""

    async def make(role: Role, name: str = "", **given: Any) -> str:
        async with control.database.write() as connection:
            owner = await principals.create(
                connection, name or f"some {role} {keys.secrets.token_hex(4)}", role
            )
            return (await keys.make(connection, "key", principal=owner, name="test", **given)).text

    return make


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Calls the command in this process; (exit code, output)."""
    monkeypatch.setattr(cli.console, "file", None)

    def call(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(
            cli.app, [str(argument) for argument in arguments], catch_exceptions=False
        )
        return result.exit_code, result.output + (result.stderr if result.exit_code else "")

    return call
