"""Agent Forge as an MCP server: the same services as the API, with the same credentials, rights and audit."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from mcp.server.mcpserver import MCPServer

from components.shared.runtime.code import VERSION

from ..auth.rights import Principal
from ..context import Control
from . import changing, looking, resources
from .access import Access
from .foreign import RULE

INSTRUCTIONS = f"""Agent Forge turns small base models into one specialised, compressed agent, in eight phases: cognate,
evomerge, quietstar, bitnet, training, baking, adas, compression. A run is some of them in that order; a model is known by
its digest. Look with list_runs, run_status, run_logs, list_models; ask what a run would take with validate and plan.

run, cancel, resume, compress and evaluate are called twice. The first call does nothing: it shows what would be done and
gives a confirmation. Show that to the person you work for, and call again with the same arguments and the confirmation
only when they agree.

{RULE}"""


def server_of(control: Control, local: Principal | None = None) -> MCPServer[Any]:
    """A server of this process.

    :param local: who everybody is that calls, over stdin and stdout; None where each request says who asks.
    """
    with _logging_as_it_is():
        server: MCPServer[Any] = MCPServer(
            "agent-forge",
            title="Agent Forge",
            version=VERSION,
            instructions=INSTRUCTIONS,
        )
    access = Access(control, local)
    for part in (looking, changing, resources):
        part.add(server, access)
    return server


@contextlib.contextmanager
def _logging_as_it_is() -> Iterator[None]:
    """MCPServer sets up the logging of the whole process, unless the root has a handler."""
    root, nothing = logging.getLogger(), logging.NullHandler()
    root.addHandler(nothing)
    try:
        yield
    finally:
        root.removeHandler(nothing)
