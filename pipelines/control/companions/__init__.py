"""Agent Forge as a client of others' MCP servers: memory, filesystem, github, eva. Off, unless FORGE_MCP_CONFIG is set.

servers    the configuration, and a connection to one of them
memory     the state of each phase as an entity, written when it ends and read back when a run is resumed
exports    a run's settings and report: as files in a root, and as a commit, a tag and a release
benchmark  a finished model measured by another program, and what it said kept beside the run
following  what a run tells them: none can hold it up, and one that is away is said once
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .setting import VARIABLE

if TYPE_CHECKING:
    from ...local.plan import Plan
    from .following import Following


def companions_of(plan: Plan, say: Callable[[str], None]) -> Following | None:
    """Who is told of this run; None where nobody is configured.

    :param say: where it is said, once, that a server is away.
    :raises ConfigError: the configuration is none.
    """
    if not os.environ.get(VARIABLE):
        return None
    if find_spec("mcp") is None:
        say(f"{VARIABLE} is set, and nobody is told: pip install 'agent-forge[control]'")
        return None
    from .following import Following  # the protocol's package, which a run need not load
    from .servers import configured

    servers = configured()
    return None if servers is None else Following(servers, plan, say)
