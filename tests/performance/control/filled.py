"""A database as it is after many runs: runs, tasks, events, models with parents, curves, executions.

Rows are written as the projection leaves them, in bulk: sqlite3's executemany, Postgres' COPY.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from sqlalchemy.engine import make_url

from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.artifact.manifest import Manifest
from pipelines.control.services.models import text_of
from pipelines.control.store import migrate
from pipelines.control.store import tables as t
from pipelines.control.store.database import Database
from pipelines.phases import PHASES

NEWEST = 1_796_000_000.0
EVERY = 600.0
TASKS = (
    ("cognate-trunk", "cognate"), ("cognate-variant-1", "cognate"), ("cognate-variant-2", "cognate"),
    ("cognate-variant-3", "cognate"), ("evomerge-round-1-worker-1", "evomerge"), ("evomerge", "evomerge"),
    ("quietstar", "quietstar"), ("bitnet", "bitnet"), ("training", "training"), ("baking", "baking"), ("adas", "adas"),
    ("compression", "compression"),
)  # fmt: skip
METRICS = ("loss", "accuracy", "gradient_norm", "score/memory", "score/reasoning")
STATES = ("succeeded",) * 16 + ("failed", "cancelled", "lost", "running")


def name_of(number: int) -> str:
    return f"run-{number:05d}"


def digest_of(number: int, phase: str) -> str:
    return hashlib.sha256(f"{number} {phase}".encode()).hexdigest()


def artifacts(folder: Path, count: int) -> list[tuple[Manifest, Path]]:
    """Real artifacts: a thousand tensors, scores with intervals, claims."""
    made = []
    for number in range(count):
        path = folder / f"real-{number:03d}" / "artifacts" / "compression" / "model"
        path.mkdir(parents=True)
        tensors = {
            f"model.layers.{layer}.weight": np.full((4, 4), number, np.float32) for layer in range(1000)
        }
        save_file(tensors, path / "model.safetensors")
        (path / "config.json").write_text(json.dumps({"model_type": "llama", "number": number}))
        scores = {
            suite: {"score": 0.5, "low": 0.4, "high": 0.6, "n": 128, "chance": 0.1}
            for suite in ("memory", "safety")
        }
        claim = {
            "claim": "better",
            "arm": "a",
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "control": "b",
            "holds": True,
        }
        manifest = seal(
            path, kind="model", phase="compression", scores=scores, metrics={"loss": 1.0},
            timing={"started": NEWEST, "seconds": 9.0}, extra={"controls": [claim] * 8},
        )  # fmt: skip
        made.append((manifest, path))
    return made


def rows(runs: int, events: int, points: int, long: int) -> Iterator[tuple[Any, Iterable[dict[str, Any]]]]:
    """Table by table, each with its rows.

    :param long: points of the one curve of the newest run that is long.
    """
    begun = {number: NEWEST - EVERY * (runs - number) for number in range(runs)}
    chance = random.Random(0)
    profile = [chance.choice(("tiny", "small", "full")) for _ in range(runs)]
    state = [chance.choice(STATES) for _ in range(runs)]

    def run_rows() -> Iterator[dict[str, Any]]:
        strip = {phase: {"state": "succeeded", "share": 1.0, "attempts": 1} for phase in PHASES}
        for number in range(runs):
            yield {
                "id": name_of(number), "state": state[number], "version": 3, "last_seq": events, "target": "local",
                "origin": "api", "owner": "", "priority": 0, "profile": profile[number], "seed": number,
                "request": {"profile": profile[number]}, "parameters": {"seed": number}, "phases": strip,
                "failing": "bitnet" if state[number] == "failed" else "", "why": "", "error": None,
                "created": begun[number], "started": begun[number] + 1,
                "finished": None if state[number] == "running" else begun[number] + 500,
                "eta": None, "asked": "", "asked_at": None, "folder": f"/runs/{name_of(number)}",
                "root": f"/runs/{name_of(number)}", "kfp_id": "", "kfp_host": "", "gpus": 0, "memory_bytes": 0,
                "holder": "", "holder_host": "", "epoch": 1, "lease_until": 0.0, "process": None, "pinned": False,
            }  # fmt: skip

    def task_rows() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for place, (task, phase) in enumerate(TASKS):
                status = {"task": task, "phase": phase, "component": phase, "status": "succeeded", "attempts": 1,
                          "started": begun[number] + 40 * place, "finished": begun[number] + 40 * place + 39,
                          "seconds": 39.0, "outputs": {"model": f"artifacts/{task}/model"}}  # fmt: skip
                yield {"run": name_of(number), "task": task, "phase": phase, "state": "succeeded", "attempt": 1,
                       "status": status, "progress": {}, "position": place}  # fmt: skip

    def event_rows() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for seq in range(1, events + 1):
                data = {
                    "kind": "progress",
                    "stage": "adaptation 1",
                    "step": seq,
                    "total": events,
                    "eta": 1.0,
                    "end": 90 * seq,
                }
                yield {"run": name_of(number), "seq": seq, "time": begun[number] + seq, "channel": "phase_progress",
                       "task": TASKS[seq % len(TASKS)][0], "attempt": 1, "producer": "folder", "n": seq,
                       "data": data}  # fmt: skip

    def model_rows() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for place, phase in enumerate(PHASES):
                score = chance.random()
                yield {"digest": digest_of(number, phase), "run": name_of(number), "task": phase, "phase": phase,
                       "kind": "model", "variant": "", "address": f"/runs/{name_of(number)}/artifacts/{phase}/model",
                       "parameters": 40_000, "bytes": chance.randrange(10**5, 10**6), "score": score,
                       "scores": {"memory": score, "safety": score}, "finished": begun[number] + 60 * place, "owner": "",
                       "pinned": False, "registered": "", "text": text_of(name_of(number), phase, "")}  # fmt: skip

    def parents() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for parent, child in itertools.pairwise(PHASES):
                yield {"child": digest_of(number, child), "parent": digest_of(number, parent)}

    def uses() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for place, phase in enumerate(PHASES):
                yield {"digest": digest_of(number, phase), "run": name_of(number), "task": phase, "role": "made",
                       "address": f"/runs/{name_of(number)}/artifacts/{phase}/model",
                       "time": begun[number] + 60 * place}  # fmt: skip

    def curve_names() -> Iterator[tuple[int, str, str, str]]:
        for number in range(runs):
            for task, phase in TASKS:
                for metric in METRICS:
                    yield number, task, phase, metric

    def metric_rows() -> Iterator[dict[str, Any]]:
        for number, task, phase, metric in curve_names():
            for step in range(points):
                yield {"run": name_of(number), "task": task, "name": metric, "step": float(step), "phase": phase,
                       "value": chance.random(), "time": begun[number] + step}  # fmt: skip
        for step in range(points, long):
            yield {"run": name_of(runs - 1), "task": "training", "name": "loss", "step": float(step), "phase": "training",
                   "value": chance.random(), "time": begun[runs - 1] + step / 100}  # fmt: skip

    def series_rows() -> Iterator[dict[str, Any]]:
        for number, task, phase, metric in curve_names():
            yield {"run": name_of(number), "task": task, "name": metric, "phase": phase, "step": points - 1.0,
                   "value": chance.random(), "time": begun[number] + points}  # fmt: skip

    def executions() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for task, phase in TASKS:
                yield {"run": name_of(number), "task": task, "attempt": 1, "phase": phase, "profile": profile[number],
                       "seconds": 30 + chance.random(), "cpu_seconds": 40.0, "memory_bytes": 2 << 30, "succeeded": True,
                       "finished": begun[number] + 500}  # fmt: skip

    def phase_executions() -> Iterator[dict[str, Any]]:
        for number in range(runs):
            for phase in PHASES:
                yield {"run": name_of(number), "phase": phase, "profile": profile[number], "seconds": 60 + chance.random(),
                       "cpu_seconds": 80.0, "memory_bytes": 2 << 30, "failures": 0, "succeeded": True,
                       "finished": begun[number] + 500}  # fmt: skip

    named = [{"phase": phase, "name": metric} for phase in PHASES for metric in METRICS]
    yield from (
        (t.run, run_rows()), (t.task, task_rows()), (t.event, event_rows()), (t.model, model_rows()),
        (t.model_parent, parents()), (t.model_use, uses()), (t.metric, metric_rows()), (t.series, series_rows()),
        (t.metric_name, named), (t.execution, executions()), (t.phase_execution, phase_executions()),
    )  # fmt: skip


async def fill(url: str, runs: int, events: int, points: int, long: int) -> dict[str, int]:
    """Migrate the database and write all rows.

    :returns: table → rows.
    """
    database = Database(url)
    await migrate.upgrade(database)
    await database.close()
    counts = {}
    for table, content in rows(runs, events, points, long):
        begun = time.time()
        write = _sqlite if url.startswith("sqlite") else _postgres
        counts[table.name] = await write(url, table, content)
        print(f"{table.name}: {counts[table.name]:,} rows, {time.time() - begun:.0f} s", flush=True)
    if not url.startswith("sqlite"):  # which nobody analyses in a server's life either
        import asyncpg

        connection = await asyncpg.connect(url)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
    return counts


def _tuples(table: Any, content: Iterable[dict[str, Any]]) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    iterator = iter(content)
    first = next(iterator)
    columns = list(first)
    as_json = {column.name for column in table.c if type(column.type).__name__ == "JSON"}

    def each() -> Iterator[tuple[Any, ...]]:
        for row in itertools.chain([first], iterator):
            yield tuple(json.dumps(row[name]) if name in as_json else row[name] for name in columns)

    return columns, each()


async def _sqlite(url: str, table: Any, content: Iterable[dict[str, Any]]) -> int:
    columns, each = _tuples(table, content)
    marks = ", ".join("?" * len(columns))
    with sqlite3.connect(make_url(url).database or "") as connection:
        connection.execute("PRAGMA synchronous=OFF")
        return connection.executemany(
            f'INSERT INTO "{table.name}" ({", ".join(columns)}) VALUES ({marks})', each
        ).rowcount


async def _postgres(url: str, table: Any, content: Iterable[dict[str, Any]]) -> int:
    import asyncpg

    columns, each = _tuples(table, content)
    connection = await asyncpg.connect(url)
    try:
        said: str = await connection.copy_records_to_table(table.name, records=each, columns=columns)
    finally:
        await connection.close()
    return int(said.split()[-1])


if __name__ == "__main__":
    import sys

    asyncio.run(fill(sys.argv[1], int(sys.argv[2]), 20, 5, 100_000))
