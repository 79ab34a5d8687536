"""Who calls a tool, whether they may, and what is written down of it: the same credentials and rights as the API's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError

from components.shared.runtime.errors import ForgeError

from ..auth import audit
from ..auth.rights import Action, Principal, Resource
from ..context import Control
from ..errors import Refused
from .foreign import plain

NEEDS: Mapping[str, tuple[Resource, Action]] = {
    "list_runs": ("phases", "read"),
    "run_status": ("phases", "read"),
    "run_logs": ("phases", "read"),
    "validate": ("phases", "execute"),
    "plan": ("phases", "execute"),
    "list_models": ("models", "read"),
    "run": ("phases", "execute"),
    "cancel": ("phases", "execute"),
    "resume": ("phases", "execute"),
    "compress": ("phases", "execute"),
    "evaluate": ("models", "execute"),
    "lineage": ("models", "read"),
    "manifest": ("models", "read"),
    "card": ("models", "read"),
    "report": ("phases", "read"),
}
"""The right that a tool or a resource needs: that of the route which does the same."""


@dataclass(frozen=True)
class Access:
    """What stands before every tool.

    :param local: who everybody is that calls over stdin and stdout; None where each request says who asks.
    """

    control: Control
    local: Principal | None = None

    def who(self, context: Context[Any, Any]) -> Principal:
        """Who calls: whom the request's credential names, else whoever has started this process."""
        request = context.request_context.request
        if request is not None:
            principal: Principal = request.scope["state"]["principal"]
            return principal
        if self.local is None:
            raise Refused(401, "nobody is known to call", fix="give a key")
        return self.local

    @contextlib.asynccontextmanager
    async def call(self, context: Context[Any, Any], name: str) -> AsyncIterator[Principal]:
        """Around what a tool or a resource does: checks the right, and says errors as errors are said.

        :raises ResourceError: they may not, or something is wrong; of a tool, too, its text reaches the assistant.
        """
        who: Principal | None = None
        try:
            who = self.who(context)
            resource, action = NEEDS[name]
            if not who.may(resource, action):
                raise Refused(
                    403,
                    "this is not yours to do",
                    where=f"{resource}:{action}",
                    why=f"{who.name or 'you'} is {who.role}",
                    fix="ask an admin for a role or a key that may",
                )
            yield who
        except ForgeError as error:
            if isinstance(error, Refused) and error.status in (401, 403, 409):
                await self.write_down(who, name, outcome=str(error.status))
            raise ResourceError(plain(str(error), 2000)) from error

    async def write_down(
        self,
        who: Principal | None,
        name: str,
        object: str = "",
        *,
        outcome: str = "done",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Add to the audit what was done by a tool, or refused."""
        async with self.control.database.write() as connection:
            await audit.record(connection, who, f"mcp {name}", object, outcome=outcome, detail=detail)
