"""The server over HTTP, with the API's credentials, and over stdin and stdout, as an assistant starts it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from pipelines.control.auth.audit import page
from pipelines.control.context import Control
from tests.control.log.made import make_run

ROOT = Path(__file__).resolve().parents[3]


async def test_a_key_says_who_calls_and_what_they_may(over_http, key_of, control: Control) -> None:
    await make_run(control.database, "demo", state="queued")
    async with over_http({"X-API-Key": await key_of("viewer", "eve")}) as client:
        assert (await client.call_tool("list_runs")).structured_content["runs"][0]["id"] == "demo"
        refused = await client.call_tool("cancel", {"run": "demo"})
        assert refused.is_error and "eve is viewer" in refused.content[0].text
    async with over_http({"Authorization": f"Bearer {await key_of('operator', 'olga')}"}) as client:
        preview = (await client.call_tool("cancel", {"run": "demo"})).structured_content
    async with over_http({"X-API-Key": await key_of("operator", "oscar")}) as client:
        wish = {"run": "demo", "confirmation": preview["confirmation"]}
        assert "another caller" in (await client.call_tool("cancel", wish)).content[0].text
    rows = await page(control.database, None, 50)
    assert {(row["name"], row["action"], row["outcome"]) for row in rows} == {
        ("eve", "mcp cancel", "403"),
        ("oscar", "mcp cancel", "409"),
    }, "looking is not written down"


async def test_a_scoped_key_may_its_scopes_alone(over_http, key_of) -> None:
    async with over_http({"X-API-Key": await key_of("admin", "ci", scopes=["phases:read"])}) as client:
        assert not (await client.call_tool("list_runs")).is_error
        assert (await client.call_tool("list_models")).is_error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "forge_key_nobody"}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_strangers_foreign_hosts_and_foreign_pages_are_refused(
    application_of: Any, control: Control, key_of, headers: dict[str, str], status: int
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    if status != 401:
        headers = headers | {"X-API-Key": await key_of("admin", "ann")}
    transport = httpx2.ASGITransport(app=application_of)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.post("/mcp", json=body, headers=headers)).status_code == status
    rows = await page(control.database, None, 50)
    assert [(row["action"], row["outcome"]) for row in rows] == [
        ("POST /mcp" if status == 401 else "POST ", str(status))
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT"])
@pytest.mark.parametrize("version", ["", "2025-06-18", "2025-11-25", "2099-01-01"])
async def test_there_is_no_stream_to_open_and_no_session_to_end(
    application_of: Any, key_of, method: str, version: str
) -> None:
    """A stream on which nothing is ever said would stay open as long as whoever asked for it."""
    headers = {"Accept": "application/json, text/event-stream", "Mcp-Session-Id": "a" * 32}
    headers |= {"MCP-Protocol-Version": version} if version else {}
    transport = httpx2.ASGITransport(app=application_of)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        async with asyncio.timeout(60):
            assert (await http.request(method, "/mcp", headers=headers)).status_code == 401
            headers["X-API-Key"] = await key_of("viewer", "eve")
            answer = await http.request(method, "/mcp", headers=headers)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


async def test_an_assistant_starts_it_and_what_it_logs_is_no_message(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "pipelines.cli", "mcp", "--runs", str(tmp_path / "runs")],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=str(ROOT),
    )
    with open(os.devnull, "w") as quiet:
        async with Client(stdio_client(server, errlog=quiet)) as client:
            assert "called twice" in (client.instructions or "")
            assert (await client.call_tool("list_runs")).structured_content == {"runs": [], "next": None}
            preview = await client.call_tool("run", {"profile": "micro", "end_phase": "cognate"})
            assert preview.structured_content["confirmation"]


async def test_it_relays_to_a_control_plane_that_runs_already(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT)}
    runs = str(tmp_path / "runs")
    served = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipelines.cli", "control", "--role", "api", "--port", "0", "--runs", runs,
        env=environment, cwd=str(ROOT), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert served.stdout is not None
        async with asyncio.timeout(300):
            said = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
                said += (await served.stdout.readline()).decode()
        key = (tmp_path / "runs" / "control" / "admin-key").read_text().strip()
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "pipelines.cli", "mcp", "--api", found[0]],
            env={**environment, "FORGE_API_KEY": key},
            cwd=str(ROOT),
        )
        with open(os.devnull, "w") as quiet:
            async with Client(stdio_client(server, errlog=quiet)) as client:
                assert (await client.call_tool("list_runs")).structured_content["runs"] == []
                assert "list_models" in {tool.name for tool in (await client.list_tools()).tools}
    finally:
        served.kill()
        await served.wait()
