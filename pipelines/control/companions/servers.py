"""Which MCP servers are told of runs, as a JSON file says it, and a connection to one of them.

    {"memory": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-memory"],
                "env": {"MEMORY_FILE_PATH": "/home/me/forge-memory.jsonl"}},
     "filesystem": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/me/exports"],
                    "root": "/home/me/exports"},
     "github": {"url": "https://api.githubcopilot.com/mcp/", "headers": {"Authorization": "Bearer ${GITHUB_TOKEN}"},
                "repository": "me/forge-runs"},
     "eva": {"command": "eva-mcp", "tool": "benchmark"}}

`${NAME}` in `env` and `headers` is a variable of the environment: secrets need not stand in the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.shared.runtime.errors import ConfigError, ForgeError

from .setting import VARIABLE

SECONDS = 60.0
"""That a server may take to start, and again for each call."""

PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "npm_config_cache")
"""What a server that is started here gets of our environment; not the keys of stores and databases."""

_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Away(ForgeError):
    """A server does not answer, or refuses. A run goes on without it."""


class Server(BaseModel):
    """A server that is started with a command, or that answers at an address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    url: str = ""
    headers: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _one_way(self) -> Server:
        if bool(self.command) == bool(self.url):
            raise ValueError("give a command or a url")
        return self


class Filesystem(Server):
    """`root` is the folder for exports, one of those that the server allows."""

    root: Path


class Github(Server):
    """Where runs are committed.

    :param repository: owner/name.
    :param folder: in the repository.
    :param tag_tool: makes a tag, of {owner, repo, tag, message}; where the server has no such tool, none is made.
    :param release_tool: makes a release, of {owner, repo, tag_name, name, body}; the same.
    """

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    branch: str = "main"
    folder: str = "runs"
    tag_tool: str = "create_tag"
    release_tool: str = "create_release"


class Eva(Server):
    """A program that measures models.

    :param tool: is called with {"model": address, "digest", "phase", "run"} and answers with JSON.
    """

    tool: str = "benchmark"


class Servers(BaseModel):
    """Those that are configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: Server | None = None
    filesystem: Filesystem | None = None
    github: Github | None = None
    eva: Eva | None = None


def configured(environment: Mapping[str, str] = os.environ) -> Servers | None:
    """The servers that the environment's file names; None where it names no file.

    :raises ConfigError: the file cannot be read, or is none.
    """
    path = environment.get(VARIABLE, "")
    if not path:
        return None
    try:
        return Servers.model_validate(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False)[0]  # headers hold secrets
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(
            "the MCP servers cannot be read",
            where=path,
            why=why,
            fix=f"correct the file, or unset {VARIABLE}",
        ) from error


@contextlib.asynccontextmanager
async def connected(name: str, server: Server) -> AsyncIterator[Client]:
    """A connection to a server; one that is started with a command ends with it.

    :raises Away: it cannot be started or reached, refuses, or does not answer in time.
    """
    try:
        async with contextlib.AsyncExitStack() as stack:
            if server.command:
                inherited = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
                quiet = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115 # the stack closes it
                parameters = StdioServerParameters(
                    command=server.command, args=list(server.args), env=inherited | _filled(server.env)
                )
                transport = stdio_client(parameters, errlog=quiet)
            else:
                http = httpx2.AsyncClient(headers=_filled(server.headers), timeout=SECONDS)
                transport = streamable_http_client(
                    server.url, http_client=await stack.enter_async_context(http)
                )
            client = Client(transport, read_timeout_seconds=SECONDS)
            async with asyncio.timeout(SECONDS):
                await stack.enter_async_context(client)
            yield client
    except ForgeError:
        raise
    except Exception as error:
        raise _away(name, error) from error


async def called(client: Client, tool: str, arguments: Mapping[str, Any]) -> Any:
    """What a tool answers: its structured content, else the JSON of its text, else the text.

    :raises Away: it refuses.
    """
    result = await client.call_tool(tool, dict(arguments))
    text = "\n".join(getattr(part, "text", "") for part in result.content)
    if result.is_error:
        raise Away("an MCP server refuses", where=tool, why=text[:500])
    if result.structured_content is not None:
        return result.structured_content
    try:
        return json.loads(text)
    except ValueError:
        return text


async def offered(client: Client) -> set[str]:
    """The names of its tools."""
    return {tool.name for tool in (await client.list_tools()).tools}


def _filled(values: Mapping[str, str]) -> dict[str, str]:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise Away(
                "a variable is not set", where=match[1], fix="set it, or write the value into the file"
            )
        return os.environ[match[1]]

    return {name: _NAMED.sub(value, text) for name, text in values.items()}


def _away(name: str, error: BaseException) -> ForgeError:
    """The error of a server, out of the groups in which it comes."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ForgeError):
        return error
    why = "it does not answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
    kind = "refuses" if isinstance(error, MCPError) else "cannot be used"
    return Away(f"the MCP server {name} {kind}", where=VARIABLE, why=why[:500])
