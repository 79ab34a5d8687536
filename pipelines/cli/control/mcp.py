"""`forge mcp`: Agent Forge as an MCP server over stdin and stdout, for an assistant that starts it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from .serving import need_packages

KEY = "FORGE_API_KEY"


def mcp(
    runs: Annotated[
        Path | None, typer.Option(help="The folder of all runs. [default: FORGE_RUNS, else runs]")
    ] = None,
    api: Annotated[
        str, typer.Option(metavar="URL", help=f"A control plane that runs already; its key is {KEY}.")
    ] = "",
) -> None:
    """Be an MCP server over stdin and stdout. An assistant starts it; by hand it waits for messages.

    \b
    forge mcp --runs runs
    FORGE_API_KEY=… forge mcp --api https://forge.example.com

    Without --api this process opens the control plane of the runs folder itself, and whoever calls is its first admin:
    who may start programs here may read that folder too. With --api each call is the key's owner's.
    """
    need_packages()
    from ...control.mcp import stdio

    if api:
        asyncio.run(stdio.relay(api, os.environ.get(KEY, "")))
        return
    from ...control.settings import from_environment

    asyncio.run(stdio.serve(from_environment(runs=runs)))
