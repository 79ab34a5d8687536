"""The API of one process, asked without a network, and principals with keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "forge")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"
