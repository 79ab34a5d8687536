"""What the database knows of all finished tasks: a counter that is read there is true over restarts and replicas.

Every replica says the same. So it is the largest of them that counts, never their sum:

    max without (instance, pod) (rate(agent_forge_bitnet_errors_total[15m]))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import GateFailed, StoreError
from pipelines.phases import PHASES

from ..store.database import now
from ..store.tables import execution

BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0)
"""Seconds: a micro phase takes one, a full one a day."""

NOTHING = [0.0] * (6 + len(BUCKETS))

SETTLED_SECONDS = 2 * 3600.0
"""So much of the past is added up at each look, at the most."""

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


Sums = dict[str, list[float]]
"""By phase: succeeded, seconds, errors, gates, stores, retries, and so many below each bound."""


class History:
    """Reads it.

    Executions are only added, so what ended before `_until` is added up once, and only counted after that: another count,
    of a run that was read late or removed, makes it be added up anew.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._old: Sums = {}
        self._count = -1

    async def read(self, connection: AsyncConnection) -> dict[str, PhaseHistory]:
        """Of every phase, those without a task too."""
        time = float(await connection.scalar(select(now())) or 0.0)
        before = execution.c.finished <= self._until
        if time - self._until > SETTLED_SECONDS or await _how_many(connection, before) != self._count:
            self._until = time - RECENTLY
            before = execution.c.finished <= self._until
            self._old, self._count = await _sums(connection, before), await _how_many(connection, before)
        new = await _sums(connection, execution.c.finished > self._until)
        lately = await _sums(connection, execution.c.finished > time - RECENTLY)
        found = {}
        for phase in PHASES:
            pairs = zip(self._old.get(phase, NOTHING), new.get(phase, NOTHING), strict=True)
            good, seconds, errors, gates, stores, retries, *below = [old + more for old, more in pairs]
            _, _, late_errors, late_gates, _, late_retries, *_ = lately.get(phase, NOTHING)
            counts = map(int, (errors, gates, stores, retries, late_errors, late_gates, late_retries))
            found[phase] = PhaseHistory(int(good), seconds, tuple(map(int, below)), *counts)
        return found


async def _how_many(connection: AsyncConnection, which: ColumnElement[bool]) -> int:
    return int(await connection.scalar(select(func.count()).select_from(execution).where(which)) or 0)


async def _sums(connection: AsyncConnection, which: ColumnElement[bool]) -> Sums:
    column = execution.c
    good, bad = column.succeeded.is_(True), column.succeeded.is_(False)
    statement = select(
        column.phase,
        _count(good),
        func.coalesce(func.sum(case((good, column.seconds), else_=0.0)), 0.0),
        _count(bad),
        _count(and_(bad, column.exit_code == GateFailed.exit_code)),
        _count(and_(bad, column.exit_code == StoreError.exit_code)),
        _count(column.attempt > 1),
        *(_count(and_(good, column.seconds <= bound)) for bound in BUCKETS),
    )
    rows = await connection.execute(statement.where(which).group_by(column.phase))
    return {phase: [float(value) for value in values] for phase, *values in rows}


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
