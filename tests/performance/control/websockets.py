"""A thousand WebSockets over three replicas: how late events are, and what a delivery costs.

    python -m tests.performance.control.websockets [--sockets 1000] [--replicas 3] [--runs 20] [--rate 40]
        [--seconds 60] [--without-redis]

The replicas are `forge control --role api` on one durable Postgres and one Redis of this machine; two processes hold the
sockets; this one writes the events, as a collector does. An event is late by the time from before its transaction to its
arrival. The processor's time is that of the replicas while events are written, over all deliveries in that time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

from pipelines.control.context import opened
from tests.performance.control.cluster import Cluster, cluster
from tests.performance.control.watchers import Watchers
from tests.performance.control.writing import Writer, make_runs

CLIENT_PROCESSES = 2


def watchers(made: Cluster, runs: list[str], sockets: int) -> list[Watchers]:
    """So many sockets, evenly over runs, replicas and processes."""
    urls = [replica.url for replica in made.replicas]
    shares = []
    for process in range(CLIENT_PROCESSES):
        own = range(process, sockets, CLIENT_PROCESSES)
        share = dict.fromkeys(runs, 0)
        for number in own:
            share[runs[number // CLIENT_PROCESSES % len(runs)]] += 1
        shares.append(Watchers(urls, made.headers, {run: count for run, count in share.items() if count}))
    return shares


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else float("nan")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--without-redis", action="store_true")
    asked = parser.parse_args()
    with cluster(asked.replicas, redis=not asked.without_redis) as made:
        async with opened(made.settings) as control:
            writer = Writer(control, await make_runs(control, asked.runs), asked.rate)
            before = [replica.memory() for replica in made.replicas]
            groups = watchers(made, writer.runs, asked.sockets)
            cpu = [replica.cpu() for replica in made.replicas]
            started = time.monotonic()
            await asyncio.gather(*(asyncio.to_thread(group.ask, "connected") for group in groups))
            connecting = time.monotonic() - started
            handshakes = sum(replica.cpu() - was for replica, was in zip(made.replicas, cpu, strict=True))
            await writer.write(min(5.0, asked.seconds))  # caches are warm, connections open
            for group in groups:
                group.ask("reset")
            writer.took.clear()
            cpu = [replica.cpu() for replica in made.replicas]
            await writer.write(asked.seconds)
            results = await asyncio.gather(
                *(asyncio.to_thread(group.ask, "until", writer.written, 60.0) for group in groups)
            )
            spent = [replica.cpu() - was for replica, was in zip(made.replicas, cpu, strict=True)]
            after = [replica.memory() for replica in made.replicas]
            for group in groups:
                group.ask("end")
    late = [seconds * 1000 for counts, _ in results for seconds in counts.late]
    took = [seconds * 1000 for seconds in writer.took]
    deliveries = sum(counts.deliveries for counts, _ in results)
    redis = "without Redis" if asked.without_redis else "Redis"
    print(
        f"\n{asked.sockets} WebSockets, {asked.replicas} replicas, {asked.runs} runs, {asked.rate:g} events/s, {redis}"
    )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {asked.seconds:g} s\n")
    memory = ", ".join(f"{was:.0f} → {now:.0f} MB" for was, now in zip(before, after, strict=True))
    rows = [
        ("emission to client, p50", f"{quantile(late, 0.5):.0f} ms"),
        ("emission to client, p99", f"{quantile(late, 0.99):.0f} ms"),
        ("emission to client, longest", f"{max(late, default=float('nan')):.0f} ms"),
        ("of it until committed, p50 and p99", f"{quantile(took, 0.5):.0f} and {quantile(took, 0.99):.0f} ms"),
        ("deliveries", f"{deliveries}"),
        ("CPU a delivery", f"{sum(spent) / max(deliveries, 1) * 1000:.3f} ms"),
        ("RSS a replica, before and with sockets", memory),
        ("all sockets open after", f"{connecting:.1f} s, {handshakes / asked.sockets * 1000:.1f} ms CPU each"),
        ("lost", str(sum(lost for _, lost in results))),
        ("doubled", str(sum(counts.doubled for counts, _ in results))),
        ("out of order", str(sum(counts.gaps for counts, _ in results))),
        ("reconnects", str(sum(counts.reconnects for counts, _ in results))),
    ]  # fmt: skip
    for name, value in rows:
        print(f"| {name:38} | {value} |")


if __name__ == "__main__":
    asyncio.run(main())
