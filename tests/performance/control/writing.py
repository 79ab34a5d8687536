"""Events written at a steady rate into many runs, as a collector writes them: each until it is in, none twice."""

from __future__ import annotations

import asyncio
import time
from itertools import count

from sqlalchemy import insert

from components.shared.runtime.errors import StoreError
from pipelines.control.context import Control
from pipelines.control.services.projection import record
from pipelines.control.store.database import now
from pipelines.control.store.events import NewEvent
from pipelines.control.store.tables import run


async def make_runs(control: Control, count: int) -> list[str]:
    """So many running runs."""
    names = [f"load-{number:02d}" for number in range(count)]
    async with control.database.write() as connection:
        for name in names:
            await connection.execute(insert(run).values(id=name, state="running", created=now()))
    return names


class Writer:
    """Writes.

    :param rate: events a second, over all runs.
    """

    def __init__(self, control: Control, runs: list[str], rate: float) -> None:
        self.control = control
        self.runs = runs
        self.rate = rate
        self.written = dict.fromkeys(runs, 0)
        self.retries = 0
        self.over = False
        self.took: list[float] = []

    async def write(self, seconds: float = float("inf")) -> None:
        """For so long, or until it is `over`, evenly."""
        await asyncio.gather(*(self._one(name, number, seconds) for number, name in enumerate(self.runs)))

    async def _one(self, name: str, number: int, seconds: float) -> None:
        pause = len(self.runs) / self.rate
        start = time.monotonic() + pause * number / len(self.runs)
        for k in count():
            if self.over or (k and k * pause >= seconds):
                return
            await asyncio.sleep(max(start + k * pause - time.monotonic(), 0))
            await self._until_in(name, self.written[name] + 1)
            self.written[name] += 1

    async def _until_in(self, name: str, n: int) -> None:
        data = {
            "kind": "log",
            "lines": [f"step {n} loss 0.123456 grad 0.0123 lr 0.0003 tokens/s 12345"],
            "end": n,
        }
        event = NewEvent("logs", "training", 1, "pod/training/1", n, time.time(), data)
        while True:
            try:
                started = time.monotonic()
                await record(self.control, name, [event])
                self.took.append(time.monotonic() - started)
                return
            except StoreError:
                self.retries += 1
                await asyncio.sleep(0.2)
