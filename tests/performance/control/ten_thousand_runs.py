"""What the pages of the dashboard ask for, after ten thousand runs: p50 and p95 of every request, over HTTP on loopback.

    python -m tests.performance.control.ten_thousand_runs                        SQLite, then Postgres
    python -m tests.performance.control.ten_thousand_runs --database sqlite --runs 1000 --times 20

A server process of its own answers, without TLS; its limit of requests is raised, and an admin asks. Each request is asked
with other parameters every time, so that caches help only where they would help people: the requests that say "again" are
the same ones once more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2

from tests.control import servers
from tests.performance.control import filled

GOAL_MS, COMPARE_GOAL_MS = 100.0, 1000.0
REAL = 80


def serve(url: str, runs: Path, port: int) -> None:
    """The server: everybody is an admin."""
    import uvicorn
    from starlette.requests import HTTPConnection

    from pipelines.control.api.app import application
    from pipelines.control.auth.rights import Principal
    from pipelines.control.settings import ControlSettings

    app = application(ControlSettings(runs=runs, database_url=url, rate_limit=10**9, role="api"))

    async def admin(connection: HTTPConnection) -> Principal:
        return Principal("measure", "measure", "admin")

    app.state.find_principal = admin
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def requests(runs: int, digests: list[str]) -> dict[str, Callable[[random.Random], str]]:
    """The requests of the pages, by what they are."""

    def some_run(chance: random.Random) -> str:
        return filled.name_of(chance.randrange(runs))

    def some_model(chance: random.Random) -> str:
        return filled.digest_of(chance.randrange(runs), chance.choice(filled.PHASES))

    def twenty(chance: random.Random) -> str:
        return ",".join(filled.name_of(number) for number in chance.sample(range(runs), min(20, runs)))

    def phase(chance: random.Random) -> str:
        return chance.choice(filled.PHASES)

    ten = "".join(f"&metric_name={name}" for name in filled.METRICS) + "".join(
        f"&metric_name=m{number}" for number in range(5)
    )
    long = f"/metrics?run={filled.name_of(runs - 1)}&task=training&metric_name=loss"
    return {
        "runs": lambda c: f"/phases/runs?limit={c.choice((20, 50, 100))}",
        "runs: failed": lambda c: "/phases/runs?state=failed",
        "runs: of a profile": lambda c: f"/phases/runs?profile={c.choice(('tiny', 'small', 'full'))}",
        "runs: by text": lambda c: f"/phases/runs?q=run-0{c.randrange(100):02d}",
        "runs: by text, none": lambda c: f"/phases/runs?q=nothing{c.randrange(1000)}",
        "a run": lambda c: f"/phases/runs/{some_run(c)}",
        "its events": lambda c: f"/phases/runs/{some_run(c)}/events?after=0",
        "models": lambda c: f"/models?limit={c.choice((20, 50, 100))}",
        "models: best of a phase": lambda c: f"/models?order=score&phase={phase(c)}&min_score=0.{c.randrange(9)}",
        "models: by text": lambda c: f"/models?q={some_model(c)[:6]}",
        "models: by text, none": lambda c: f"/models?q=nothing{c.randrange(1000)}",
        "models: of a run": lambda c: f"/models?run={some_run(c)}",
        "a model": lambda c: f"/models/{c.choice(digests)}",
        "its lineage": lambda c: f"/models/{some_model(c)}/lineage",
        "its tensors": lambda c: f"/models/{c.choice(digests)}/tensors?limit=200&q={c.randrange(10)}",
        "metrics of a run": lambda c: f"/metrics?run={some_run(c)}&points=500&limit=60",
        "metrics of a phase": lambda c: f"/metrics?phase={phase(c)}&metric_name={c.choice(filled.METRICS)}",
        "metrics: newest": lambda c: f"/metrics?limit={c.randrange(5, 20)}",
        "metrics: all of a phase": lambda c: f"/metrics?phase={phase(c)}",
        "a curve of 100,000": lambda c: f"{long}&points={c.randrange(99, 2000)}",
        "that curve again": lambda c: f"{long}&points=500",
        "names": lambda c: "/metrics/names",
        "aggregates of a run": lambda c: f"/metrics/aggregates?run={some_run(c)}",
        "aggregates of all runs": lambda c: f"/metrics/aggregates?metric_name={c.choice(filled.METRICS)}",
        "report": lambda c: "/metrics/report",
        "compare 20 × 10": lambda c: f"/metrics/compare?runs={twenty(c)}{ten}",
        "compare 20 × all": lambda c: f"/metrics/compare?runs={twenty(c)}",
        "runs compared": lambda c: f"/phases/compare?runs={twenty(c)}",
        "settings of the server": lambda c: "/config",
        "schemas": lambda c: "/config/schema",
        "state": lambda c: "/config/state",
        "profiles": lambda c: "/config/profiles",
        "queue": lambda c: "/phases/queue",
        "system": lambda c: "/system",
    }  # fmt: skip


async def measure(
    base: str, runs: int, digests: list[str], times: int
) -> list[tuple[str, float, float, float, str]]:
    """Name, p50, p95, the first one, and what was wrong; milliseconds."""
    chance = random.Random(1)
    table = []
    async with httpx2.AsyncClient(base_url=base, timeout=60) as client:
        for name, make in requests(runs, digests).items():
            took, wrong = [], ""
            for _ in range(times + 1):
                begun = time.perf_counter()
                answer = await client.get(make(chance))
                took.append(1000 * (time.perf_counter() - begun))
                if answer.status_code != 200:
                    wrong = f"{answer.status_code}"
                    break
            rest = sorted(took[1:]) or took
            p95 = rest[min(len(rest) - 1, round(0.95 * len(rest)))]
            goal = COMPARE_GOAL_MS if "compare" in name else GOAL_MS
            if not wrong and p95 > goal:
                wrong = f"over {goal:.0f} ms"
            table.append((name, statistics.median(rest), p95, took[0], wrong))
    return table


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The address of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'control.db'}"
        return
    programs = servers.postgres_programs()
    if programs is None:
        raise SystemExit("Postgres is not installed")
    with servers.postgres_server(programs) as server:
        server.sql("CREATE DATABASE many")
        yield server.url("many")


def run(kind: str, runs: int, times: int, events: int, points: int, long: int) -> bool:
    """Fill, serve, ask, and print the table."""
    with tempfile.TemporaryDirectory() as name, database(kind, Path(name)) as url:
        folder = Path(name) / "runs"
        folder.mkdir()
        counts = asyncio.run(filled.fill(url, runs, events, points, long))
        real = filled.artifacts(folder, REAL)
        port = servers.free_port()
        command = [
            sys.executable,
            "-m",
            "tests.performance.control.ten_thousand_runs",
            "--serve",
            url,
            str(folder),
            str(port),
        ]
        server = subprocess.Popen(command)
        try:
            base = f"http://127.0.0.1:{port}"
            wait(base)
            with httpx2.Client(base_url=base, timeout=120) as client:
                client.post("/models/import", json={"address": str(folder)}).raise_for_status()
            table = asyncio.run(measure(base, runs, [manifest.digest for manifest, _ in real], times))
        finally:
            server.terminate()
            server.wait()
    print(f"\n{kind}: {', '.join(f'{count:,} {table}' for table, count in counts.items())}")
    print(f"{'request':<28}{'p50 ms':>9}{'p95 ms':>9}{'first ms':>10}")
    for what, p50, p95, first, wrong in table:
        print(f"{what:<28}{p50:>9.1f}{p95:>9.1f}{first:>10.1f}  {wrong}")
    return not any(wrong.startswith("over") for *_, wrong in table)


def wait(base: str) -> None:
    """Until the server answers."""
    for _ in range(300):
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{base}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the server does not answer")


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=60, help="of each request")
    parser.add_argument("--events", type=int, default=20, help="of each run")
    parser.add_argument("--points", type=int, default=5, help="of each curve; sixty curves a run")
    parser.add_argument("--long", type=int, default=100_000, help="points of one curve")
    given = parser.parse_args()
    kinds = ("sqlite", "postgres") if given.database == "both" else (given.database,)
    well = [run(kind, given.runs, given.times, given.events, given.points, given.long) for kind in kinds]
    raise SystemExit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
