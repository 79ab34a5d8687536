"""Who may ask for room: by a signature that holds once and for five minutes, or by the secret itself; and nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import httpx2
import pytest
from sqlalchemy import select

from pipelines.control.api.app import application
from pipelines.control.context import Control, opened
from pipelines.control.monitoring.webhook import signature
from pipelines.control.services import admission
from pipelines.control.settings import ControlSettings
from pipelines.control.store.tables import audit
from tests.control.monitoring.conftest import SECRET

ALERT = {
    "status": "firing",
    "labels": {"alertname": "high_memory_usage", "severity": "warning", "action": "scale_resources"},
    "annotations": {"summary": "81% is in use", "runbook_url": "docs/control/runbooks.md#high_memory_usage"},
    "startsAt": "2026-11-30T09:00:00Z",
    "fingerprint": "0011223344556677",
}
POST = {
    "version": "4",
    "status": "firing",
    "alerts": [ALERT],
    "commonAnnotations": {"summary": "81% is in use"},
}


def signed(
    body: bytes, *, at: float | None = None, nonce: str = "0123456789abcdef", secret: str = SECRET
) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    return {
        "X-Forge-Timestamp": stamp,
        "X-Forge-Nonce": nonce,
        "X-Forge-Signature": signature(secret, stamp, nonce, body),
        "Content-Type": "application/json",
    }


async def post(
    client: httpx2.AsyncClient, headers: Mapping[str, str], body: bytes, path: str = "/system/scale"
):
    return await client.post(path, content=body, headers=dict(headers))


BODY = json.dumps(POST).encode()


async def test_a_signature_holds_once(client: httpx2.AsyncClient) -> None:
    headers = signed(BODY)
    assert (await post(client, headers, BODY)).json()["action"] == "held"
    again = await post(client, headers, BODY)
    assert again.status_code == 401 and "before" in again.json()["why"]
    assert (await post(client, signed(BODY, nonce="another-one-0123"), BODY)).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("off", [-301, 301, -(10**9), 10**12])
async def test_a_signature_holds_for_five_minutes(client: httpx2.AsyncClient, off: int) -> None:
    assert (await post(client, signed(BODY, at=time.time() + off), BODY)).status_code == 401


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "spoiled",
    [
        {"X-Forge-Signature": "sha256=" + "0" * 64},
        {"X-Forge-Signature": ""},
        {"X-Forge-Signature": "sha256=é"},
        {"X-Forge-Timestamp": "0"},
        {"X-Forge-Timestamp": ""},
        {"X-Forge-Nonce": "another-nonce-0123"},
        {"X-Forge-Nonce": ""},
        {"Authorization": "Bearer " + SECRET[:-1], "X-Forge-Signature": ""},
        {"Authorization": "Basic " + SECRET, "X-Forge-Signature": ""},
    ],
    ids=str,
)
async def test_what_is_not_signed_so_is_refused_and_does_nothing(
    control: Control, client: httpx2.AsyncClient, spoiled: dict[str, str]
) -> None:
    headers = {**signed(BODY), **spoiled}
    encoded = {name: value.encode() for name, value in headers.items()}
    refused = await client.post("/system/scale", content=BODY, headers=encoded)
    assert refused.status_code == 401 and SECRET not in refused.text
    async with control.database.read() as connection:
        assert await admission.held(connection) is None


async def test_another_body_or_another_secret_does_not_fit(client: httpx2.AsyncClient) -> None:
    assert (await post(client, signed(BODY), BODY + b" ")).status_code == 401
    assert (await post(client, signed(BODY, secret="x" * 32), BODY)).status_code == 401


async def test_alertmanagers_token_is_enough_and_what_it_posts_is_shown_and_written_down(
    control: Control,
    client: httpx2.AsyncClient,
) -> None:
    token = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    assert (await post(client, token, BODY)).status_code == 200
    async with control.database.read() as connection:
        rows = (await connection.execute(select(audit).where(audit.c.name == "webhook"))).mappings().all()
        hold = await admission.held(connection)
    assert [row["outcome"] for row in rows] == ["held"] and SECRET not in str(rows)
    assert hold is not None and "81%" in hold.why
    resolved = json.dumps(
        {**POST, "status": "resolved", "alerts": [{**ALERT, "status": "resolved"}]}
    ).encode()
    assert (await post(client, token, resolved)).json()["action"] == "released"
    async with control.database.read() as connection:
        assert await admission.held(connection) is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"status": "firing"}', b'{"status": "on", "alerts": []}', b"\xff"]
)
async def test_a_post_of_another_form_is_refused_without_being_repeated(
    client: httpx2.AsyncClient, body: bytes
) -> None:
    for path in ("/system/scale", "/system/alerts"):
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
        assert (await post(client, headers, body, path)).status_code in (400, 422)


async def test_without_a_secret_nobody_may(settings: ControlSettings) -> None:
    async with opened(settings.model_copy(update={"webhook_secret": ""})) as control:
        app = application(control.settings)
        app.state.control = control
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for headers in (signed(BODY, secret=""), {"Authorization": "Bearer "}):
                assert (await post(client, headers, BODY)).status_code == 403
