"""What the database knows of all finished tasks: a counter that is read there is true over restarts and replicas.

Every replica says the same. So it is the largest of them that counts, never their sum:

    max without (instance, pod) (rate(agent_forge_bitnet_errors_total[15m]))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import GateFailed, StoreError
from pipelines.phases import PHASES

from ..store.database import now
from ..store.tables import execution

BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0)
"""Seconds: a micro phase takes one, a full one a day."""

RECENTLY = 900.0
"""Seconds that an alert about something that has happened looks back."""


@dataclass(frozen=True)
class PhaseHistory:
    """All tasks of a phase that have ended.

    :param succeeded: of these, `seconds` in all, and so many that took at most each of BUCKETS.
    :param errors: attempts that failed, `gates` of them at a gate, `stores` of them because of a store.
    :param retries: attempts after the first.
    :param recent_errors: in the last RECENTLY seconds; the same for gates and retries.
    """

    succeeded: int = 0
    seconds: float = 0.0
    below: Sequence[int] = field(default_factory=lambda: (0,) * len(BUCKETS))
    errors: int = 0
    gates: int = 0
    stores: int = 0
    retries: int = 0
    recent_errors: int = 0
    recent_gates: int = 0
    recent_retries: int = 0


async def read(connection: AsyncConnection) -> dict[str, PhaseHistory]:
    """Of every phase, those without a task too."""
    column = execution.c
    good, gate = column.succeeded.is_(True), column.exit_code == GateFailed.exit_code
    bad = column.succeeded.is_(False)
    again = column.attempt > 1
    recent = column.finished > now() - RECENTLY
    statement = select(
        column.phase,
        _count(good),
        func.coalesce(func.sum(case((good, column.seconds), else_=0.0)), 0.0),
        _count(bad),
        _count(and_(bad, gate)),
        _count(and_(bad, column.exit_code == StoreError.exit_code)),
        _count(again),
        *(_count(and_(good, column.seconds <= bound)) for bound in BUCKETS),
    ).group_by(column.phase)
    lately = (
        select(column.phase, _count(bad), _count(and_(bad, gate)), _count(again))
        .where(recent)
        .group_by(column.phase)
    )
    new = {row[0]: row[1:] for row in await connection.execute(lately)}
    found = {}
    for phase, succeeded, seconds, errors, gates, stores, retries, *below in await connection.execute(
        statement
    ):
        found[phase] = PhaseHistory(
            succeeded,
            float(seconds),
            tuple(below),
            errors,
            gates,
            stores,
            retries,
            *new.get(phase, (0, 0, 0)),
        )
    return {phase: found.get(phase, PhaseHistory()) for phase in PHASES}


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
