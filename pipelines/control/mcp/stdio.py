"""The MCP server over stdin and stdout: of a control plane that this process opens, or relayed to one that runs already."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server

from components.shared.runtime.errors import ConfigError

from ..auth import principals
from ..auth.rights import Principal
from ..background import working
from ..context import Control, opened
from ..settings import ControlSettings
from .server import server_of

SECONDS = 60.0
"""That a relayed request may take to begin to be answered."""


async def serve(settings: ControlSettings) -> None:
    """Serve until stdin ends; whoever calls is the first admin of this runs folder.

    The controller goes on meanwhile, so that what is started runs. Runs go on beyond the end, and whoever opens the folder
    next takes them up.
    """
    async with opened(settings) as control, working(control):
        await server_of(control, await first_admin(control)).run_stdio_async()


async def first_admin(control: Control) -> Principal:
    """Who everybody is that may start programs beside the runs folder.

    :raises ConfigError: nobody is admin there.
    """
    async with control.database.read() as connection:
        id = await principals.first_admin(connection)
    if not id:
        raise ConfigError("nobody is admin of this control plane", fix="forge keys create --role admin")
    return Principal(id, "forge mcp", "admin", credential="stdio")


async def relay(url: str, key: str) -> None:
    """Pass messages between stdin and stdout and the `/mcp` of a control plane, unchanged, until stdin ends.

    :param key: of the API.
    :raises ConfigError: there is no key, or the address is none, or sends the key in the clear to another machine.
    """
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ConfigError("a key goes to another machine by https alone", where=f"--api {url}")
    if not key:
        raise ConfigError("there is no key", where="FORGE_API_KEY", fix="forge keys create NAME makes one")
    headers = {"X-API-Key": key}
    address = url.rstrip("/") + "/mcp"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=SECONDS) as http,
        streamable_http_client(address, http_client=http) as (theirs, to_them),
        stdio_server() as (ours, to_us),
    ):

        async def outwards() -> None:
            async for message in ours:
                if isinstance(message, Exception):
                    raise message
                await to_them.send(message)
            await to_them.aclose()

        async def inwards() -> None:
            async for message in theirs:
                if isinstance(message, Exception):
                    raise message
                await to_us.send(message)

        tasks = [asyncio.create_task(outwards()), asyncio.create_task(inwards())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
