"""How many gates of published results held and how many did not: what the tasks have said of themselves, phase by phase."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pipelines.phases import PHASES

from ..store.tables import series

RESULTS = {"gates_passed": "passed", "gates_failed": "failed"}
"""The figures of a finished task (components/shared/runtime/record.py), and what they are called here."""

FRESH_SECONDS = 60.0
"""So old a count may be: it goes through the newest figures of all runs."""


class Gates:
    """Counts them, now and then."""

    def __init__(self) -> None:
        self._taken = -FRESH_SECONDS
        self._counts: dict[tuple[str, str], float] = {}

    async def read(self, connection: AsyncConnection) -> Mapping[tuple[str, str], float]:
        """By phase and result; of every phase, those without a gate too."""
        if time.monotonic() - self._taken >= FRESH_SECONDS:
            columns = series.c
            rows = await connection.execute(
                select(columns.phase, columns.name, func.sum(columns.value))
                .where(columns.phase.in_(PHASES), columns.name.in_(RESULTS))
                .group_by(columns.phase, columns.name)
            )
            nothing = {(phase, result): 0.0 for phase in PHASES for result in RESULTS.values()}
            counted = {(phase, RESULTS[name]): float(total) for phase, name, total in rows}
            self._counts, self._taken = nothing | counted, time.monotonic()
        return self._counts
