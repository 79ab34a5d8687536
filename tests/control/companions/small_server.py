"""A server of the protocol with the tools of github's and eva's: it writes what it is told into a file.

python small_server.py FILE [tags]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

server: MCPServer[Any] = MCPServer("small")
FILE = Path(sys.argv[1])


def keep(tool: str, content: dict[str, Any]) -> str:
    with FILE.open("a") as file:
        file.write(json.dumps({"tool": tool, **content}) + "\n")
    return "done"


@server.tool()
def push_files(owner: str, repo: str, branch: str, files: list[dict[str, str]], message: str) -> str:
    return keep("push_files", {"repository": f"{owner}/{repo}", "branch": branch, "message": message,
                               "files": {file["path"]: file["content"] for file in files}})  # fmt: skip


@server.tool()
def benchmark(model: str, digest: str, phase: str, run: str) -> dict[str, Any]:
    keep("benchmark", {"model": model, "digest": digest, "phase": phase, "run": run})
    return {"score": 0.5, "suite": "small"}


if "tags" in sys.argv:

    @server.tool()
    def create_tag(owner: str, repo: str, tag: str, message: str) -> str:
        return keep("create_tag", {"tag": tag})

    @server.tool()
    def create_release(owner: str, repo: str, tag_name: str, name: str, body: str) -> str:
        return keep("create_release", {"tag": tag_name, "name": name})


server.run()
