"""Everything of the control plane killed while a thousand WebSockets watch: what is lost, doubled or out of order.

    python -m tests.performance.control.chaos [--sockets 1000] [--replicas 3] [--runs 20] [--rate 40] [--seconds 120]
        [--every 10]

`kill -9` of a random replica every so many seconds, which is started again at once; then of Redis for five seconds; then of
Postgres, whose crash recovery the writer and all readers wait out. Clients come back to whichever replica answers. The
writer sends again what it does not know to be in, under the same number. At the end every client must have every event.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time

from sqlalchemy import func, select

from pipelines.control.context import opened
from pipelines.control.store.tables import event
from tests.performance.control.cluster import Cluster, cluster
from tests.performance.control.websockets import watchers
from tests.performance.control.writing import Writer, make_runs

AWAY_SECONDS = 5.0
SETTLE_SECONDS = 15.0


async def kill_replicas(made: Cluster, seconds: float, every: float) -> int:
    """Kill a random replica again and again; how often."""
    end, kills = time.monotonic() + seconds, 0
    while time.monotonic() + every < end:
        await asyncio.sleep(every)
        replica = random.choice(made.replicas)
        await asyncio.to_thread(replica.kill)
        replica.start()
        kills += 1
    await asyncio.sleep(max(end - time.monotonic(), 0))
    for replica in made.replicas:
        await asyncio.to_thread(replica.wait)
    return kills


async def kill_redis(made: Cluster) -> None:
    assert made.redis
    await asyncio.to_thread(made.redis.kill)
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(made.redis.start)
    await asyncio.sleep(SETTLE_SECONDS)


async def kill_postgres(made: Cluster) -> None:
    await asyncio.to_thread(made.postgres.kill)
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(made.postgres.start)
    await asyncio.sleep(SETTLE_SECONDS)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--every", type=float, default=10.0)
    asked = parser.parse_args()
    random.seed(12)
    with cluster(asked.replicas) as made:
        async with opened(made.settings) as control:
            writer = Writer(control, await make_runs(control, asked.runs), asked.rate)
            groups = watchers(made, writer.runs, asked.sockets)
            await asyncio.gather(*(asyncio.to_thread(group.ask, "connected") for group in groups))
            writing = asyncio.create_task(writer.write())
            kills = await kill_replicas(made, asked.seconds, asked.every)
            print(f"{kills} replicas killed", flush=True)
            await kill_redis(made)
            print("Redis killed and started again", flush=True)
            await kill_postgres(made)
            print("Postgres killed and started again", flush=True)
            writer.over = True
            await writing
            results = await asyncio.gather(
                *(asyncio.to_thread(group.ask, "until", writer.written, 120.0) for group in groups)
            )
            for group in groups:
                group.ask("end")
            async with control.database.read() as connection:
                counted = select(func.count(), func.count(event.c.n.distinct())).group_by(event.c.run)
                rows = (await connection.execute(counted)).all()
    written = sum(writer.written.values())
    print(
        f"\n{asked.sockets} WebSockets, {asked.replicas} replicas, {asked.runs} runs, {asked.rate:g} events/s"
    )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    for name, value in [
        ("replicas killed", kills),
        ("events written", written),
        ("of them sent again by the writer", writer.retries),
        ("rows, and different numbers among them", f"{sum(a for a, _ in rows)}, {sum(b for _, b in rows)}"),
        ("deliveries", sum(counts.deliveries for counts, _ in results)),
        ("reconnects", sum(counts.reconnects for counts, _ in results)),
        ("lost", sum(lost for _, lost in results)),
        ("doubled", sum(counts.doubled for counts, _ in results)),
        ("out of order", sum(counts.gaps for counts, _ in results)),
        ("cursors told to begin anew", sum(counts.gone for counts, _ in results)),
    ]:
        print(f"| {name:40} | {value} |")


if __name__ == "__main__":
    asyncio.run(main())
