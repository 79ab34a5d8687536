"""Who may do what: one table, and what is not in it is refused.

=========  ==============================================  ==========================================================
role       may                                             of whose
=========  ==============================================  ==========================================================
viewer     read everything but keys and audit              everyone's runs and models: a team looks at one board
operator   also execute and write phases, models, metrics  their own; what belongs to nobody (the command line's) too
admin      everything                                      everyone's
run        write events                                    of its one run, as long as it goes on
=========  ==============================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Resource = Literal["phases", "models", "metrics", "config", "keys", "audit", "system", "events"]
Action = Literal["read", "execute", "write", "delete"]
Role = Literal["viewer", "operator", "admin", "run"]

RESOURCES: tuple[Resource, ...] = (
    "phases",
    "models",
    "metrics",
    "config",
    "keys",
    "audit",
    "system",
    "events",
)
ACTIONS: tuple[Action, ...] = ("read", "execute", "write", "delete")

_READ = frozenset[Action]({"read"})
_WORK = frozenset[Action]({"read", "execute", "write", "delete"})

RIGHTS: Mapping[Role, Mapping[Resource, frozenset[Action]]] = {
    "viewer": {
        "phases": _READ, "models": _READ, "metrics": _READ, "config": _READ, "system": _READ, "events": _READ,
    },
    "operator": {
        "phases": _WORK, "models": _WORK, "metrics": frozenset({"read", "write"}),
        "config": frozenset({"read", "execute"}), "system": _READ, "events": _READ,
    },
    "admin": {resource: _WORK for resource in RESOURCES},
    "run": {"events": frozenset({"write"})},
}  # fmt: skip


@dataclass(frozen=True)
class Principal:
    """Who asks.

    :param id: in the database; what a run's or a model's `owner` is.
    :param scopes: "resource:action" of a key that may less than its role; empty for all of the role.
    :param run: of a run token: the one run that it is for.
    :param credential: by which they came: "key:<id>", "session:<family>", "run:<id>", or "oidc".
    :param expires: when what they showed expires, where nothing here can end it before: of an identity provider's token.
    """

    id: str
    name: str
    role: Role
    scopes: frozenset[str] = field(default_factory=frozenset)
    run: str = ""
    credential: str = ""
    expires: float | None = None

    def may(self, resource: Resource, action: Action) -> bool:
        """Whether the table lets them."""
        allowed = action in RIGHTS.get(self.role, {}).get(resource, frozenset())
        return allowed and (not self.scopes or f"{resource}:{action}" in self.scopes)

    def owns(self, owner: str) -> bool:
        """Whether they may change what belongs to `owner`."""
        return self.role == "admin" or (self.role == "operator" and owner in ("", self.id))
