"""Which credentials hold: of an account that is not disabled, or of a run that goes on; neither revoked nor expired."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select

from ..store.database import now
from ..store.tables import api_key, principal, run

ENDED = ("succeeded", "failed", "cancelled")
"""States of a run in which its tokens are worth nothing."""

USED_EVERY = 60.0
"""Seconds after which the time of a key's last use is written again."""


def living(proof: ColumnElement[bool]) -> Select[Any]:
    """The statement that finds credentials which hold, each with whom it belongs to."""
    return (
        select(
            api_key.c.id.label("key_id"),
            api_key.c.kind,
            api_key.c.family,
            api_key.c.scopes,
            api_key.c.run,
            or_(api_key.c.used.is_(None), api_key.c.used < now() - USED_EVERY).label("stale"),
            principal.c.id,
            principal.c.name,
            principal.c.role,
        )
        .outerjoin(principal, principal.c.id == api_key.c.principal)
        .outerjoin(run, run.c.id == api_key.c.run)
        .where(
            proof,
            api_key.c.revoked.is_(None),
            or_(api_key.c.expires.is_(None), api_key.c.expires > now()),
            or_(
                principal.c.disabled.is_(False),
                (api_key.c.kind == "run") & run.c.id.is_not(None) & run.c.state.not_in(ENDED),
            ),
        )
    )
