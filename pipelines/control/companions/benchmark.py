"""A finished model measured by another program, by its MCP server; what it says is kept beside the run.

There is no server of the name eva that everybody has, so the contract is ours: the configured tool gets {"model": address,
"digest", "phase", "run"} and answers with JSON. The address is a folder or a store's place, which it reads by itself.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mcp import Client

from components.shared.runtime.atomic import write_atomically

from .servers import Eva, called

FILE = "benchmark.json"


async def benchmarked(client: Client, server: Eva, folder: Path, model: dict[str, Any]) -> Path:
    """Have a model measured, and keep the result.

    :param folder: of the run.
    :param model: {model, digest, phase, run}.
    :returns: the file of the result.
    :raises Away: the server refuses.
    """
    result = await called(client, server.tool, model)
    kept = {"time": time.time(), "tool": server.tool, "asked": model, "result": result}
    path = folder / FILE
    write_atomically(path, json.dumps(kept, indent=1))
    return path
