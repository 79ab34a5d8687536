"""Runs on Kubeflow as the database has them, and what their pods leave in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from components.shared.runtime.tracking import chunks
from pipelines.control.context import Control
from pipelines.control.store import events as log
from pipelines.control.store.database import now
from pipelines.control.store.tables import run, task


async def new_run(control: Control, name: str = "r", **columns: Any) -> None:
    """A run on Kubeflow that goes on."""
    async with control.database.write() as connection:
        time = await connection.scalar(select(now()))
        row = {"id": name, "state": "running", "target": "kubeflow", "created": time, **columns}
        await connection.execute(insert(run).values(row))


async def row_of(control: Control, name: str = "r") -> Any:
    async with control.database.read() as connection:
        return (await connection.execute(select(run).where(run.c.id == name))).mappings().one()


async def tasks_of(control: Control, name: str = "r") -> dict[str, Any]:
    async with control.database.read() as connection:
        rows = await connection.execute(select(task).where(task.c.run == name).order_by(task.c.position))
        return {row["task"]: row for row in rows.mappings()}


async def all_events(control: Control, name: str = "r") -> list[log.Event]:
    found: list[log.Event] = []
    while page := await log.page(control.database, name, found[-1].seq if found else 0):
        found += page
    return found


def line(n: int, kind: str = "metric", attempt: int = 1, **data: Any) -> dict[str, Any]:
    """A line of a chunk."""
    if kind == "metric" and not data:
        data = {"values": {"loss": 1.0 / n}, "stage": "fit", "step": n}
    if kind == "log" and not data:
        data = {"lines": [f"line {n}"]}
    return {"n": n, "time": 1764460800.0 + n, "kind": kind, "attempt": attempt, "data": data}


def state(n: int, state: str = "running", attempt: int = 1, **more: Any) -> dict[str, Any]:
    return line(n, "state", attempt, state=state, phase="cognate", **more)


def leave(
    root: Path, number: int, lines: list[dict[str, Any]], task: str = "cognate-trunk", process: str = "p"
) -> Path:
    """A chunk in the store of a run."""
    path = root / chunks.FOLDER / chunks.key(task, process, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chunks.encode(lines))
    return path
