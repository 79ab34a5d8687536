"""How quick the log of events is by itself: appends a second, and a run of 100,000 events read again.

    python -m tests.performance.control.log_speed [--events 100000] [--seconds 10]

On SQLite and on a durable Postgres of this machine. A replay is a WebSocket that subscribes at 0 and reads to the end, over
loopback and with its JSON parsed: from rows, and from the object that the run's events have become.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert, update
from websockets.asyncio.client import connect

from pipelines.control.api.app import application
from pipelines.control.auth.principals import KEY_FILE
from pipelines.control.context import Control
from pipelines.control.server import Server, address, bound, config
from pipelines.control.settings import ControlSettings
from pipelines.control.store.compaction import compact
from pipelines.control.store.database import now
from pipelines.control.store.events import NewEvent, append
from pipelines.control.store.tables import event, run
from tests.control import servers


def line(n: int) -> NewEvent:
    data = {
        "kind": "log",
        "lines": [f"step {n} loss 0.123456 grad 0.0123 lr 0.0003 tokens/s 12345"],
        "end": n,
    }
    return NewEvent("logs", "training", 1, "pod/training/1", n, time.time(), data)


async def appends(control: Control, name: str, batch: int, seconds: float) -> float:
    """Events a second of one writer, in transactions of so many."""
    await make(control, name)
    n, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        async with control.database.write() as connection:
            await append(connection, name, [line(n + i) for i in range(1, batch + 1)])
        n += batch
    return n / (time.monotonic() - start)


async def make(control: Control, name: str, state: str = "running") -> None:
    async with control.database.write() as connection:
        await connection.execute(insert(run).values(id=name, state=state, created=now(), finished=1.0))


async def fill(control: Control, count: int) -> None:
    """A run of so many events."""
    await make(control, "long", "succeeded")
    for start in range(1, count + 1, 5000):
        rows = []
        for n in range(start, min(start + 5000, count + 1)):
            one = line(n)
            rows.append(
                {"run": "long", "seq": n, "time": one.time, "channel": one.channel, "task": one.task,
                 "attempt": 1, "producer": one.producer, "n": n, "data": one.data}
            )  # fmt: skip
        async with control.database.write() as connection:
            await connection.execute(insert(event), rows)
            await connection.execute(update(run).where(run.c.id == "long").values(last_seq=rows[-1]["seq"]))


async def replay(url: str, headers: dict[str, str], count: int) -> float:
    """Seconds until a client has read all."""
    start = time.monotonic()
    async with connect(
        f"{url.replace('http', 'ws')}/ws/replay", additional_headers=headers, compression=None
    ) as socket:
        await socket.send(json.dumps({"subscribe": {"long": 0}}))
        last = 0
        while last < count:
            message = json.loads(await socket.recv())
            for one in message.get("events", ()):
                assert one["seq"] == last + 1
                last += 1
    return time.monotonic() - start


async def measure(url: str, folder: Path, asked: argparse.Namespace) -> list[tuple[str, str]]:
    settings = ControlSettings(runs=folder / "runs", database_url=url, port=0, role="api")
    app, ready = application(settings), asyncio.Event()

    async def say() -> None:
        ready.set()

    with contextlib.closing(bound(settings)) as listening:
        server = Server(config(app, settings), say)
        serving = asyncio.create_task(server.serve([listening]))
        await ready.wait()
        control: Control = app.state.control
        headers = {"X-API-Key": (settings.folder / KEY_FILE).read_text().strip()}
        rows = []
        for batch in (1, 10, 100):
            rate = await appends(control, f"batch-{batch}", batch, asked.seconds)
            rows.append((f"appends, batches of {batch}, one writer", f"{rate:.0f} events/s"))
        await fill(control, asked.events)
        where = address(settings, listening)
        seconds = await replay(where, headers, asked.events)
        rows.append((f"replay of {asked.events} events, from rows", f"{seconds:.1f} s"))
        start = time.monotonic()
        packed = await compact(control.database, "long", str(folder / "store"))
        assert packed
        took = time.monotonic() - start
        rows.append(("making them one object", f"{took:.1f} s, {packed.bytes / 1e6:.1f} MB"))
        app.state.feeds._blocks.clear()  # nothing of the first replay is at hand
        seconds = await replay(where, headers, asked.events)
        rows.append((f"replay of {asked.events} events, from the object", f"{seconds:.1f} s"))
        server.should_exit = True
        await serving
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    programs = servers.postgres_programs() or sys.exit("this needs Postgres: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as name, servers.postgres_server(programs, durable=True) as server:
        server.sql("CREATE DATABASE forge")
        for kind, url in [
            ("SQLite", f"sqlite:///{Path(name) / 'control.db'}"), ("Postgres", server.url("forge"))
        ]:  # fmt: skip
            rows = await measure(url, Path(name) / kind, asked)
            print(f"\n{kind}, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            for what, figure in rows:
                print(f"| {what:45} | {figure} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
