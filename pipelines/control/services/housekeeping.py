"""What jobs do: checkpoints that nobody goes on from are removed, figures compared, old keys forgotten."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

from sqlalchemy import CursorResult, delete, select

from ...runs.folder import DONE, RunFolder, readable
from ..context import Control
from ..store.database import now
from ..store.tables import api_key, confirmation, idempotency, run
from .performance import report
from .submission import KEPT_SECONDS
from .transitions import OVER

KEPT_DAYS = 7.0
"""So long checkpoints are kept of a run that has ended before it was done: somebody may go on with it."""

DAY = 86_400.0
SAYING = ("run.json", "status.json", "output_metadata.json", "forge.json", "metrics")
"""Files of a run that may say where a checkpoint lies."""


async def cleanup_checkpoints(control: Control) -> dict[str, Any]:
    """Remove checkpoints of finished tasks, and of runs that ended unfinished a week ago.

    Never those of a run that lives or is pinned, nor what a manifest, a record or a run's parameters tell of.
    """
    async with control.database.read() as connection:
        rows = await connection.execute(select(run.c.id, run.c.state, run.c.pinned, run.c.finished))
        kept = {row.id for row in rows if row.pinned or row.state not in OVER}
    return await asyncio.to_thread(clean, control.settings.runs.absolute(), kept)


def clean(runs: Path, kept: set[str], days: float = KEPT_DAYS) -> dict[str, Any]:
    """The same, on the disk.

    :param kept: runs of which nothing is removed.
    """
    folders = [folder for folder, _ in readable(runs)]
    candidates = [
        (folder, checkpoints)
        for folder in folders
        if folder.name not in kept and not folder.active()
        for checkpoints in _left(folder, days)
    ]
    texts = [text for folder in folders for text in _said(folder)] if candidates else []
    removed, freed, told = 0, 0, 0
    for folder, checkpoints in candidates:
        if any(str(checkpoints).encode() in text for text in texts):
            told += 1
            continue
        with folder.lock():  # nobody goes on with it meanwhile
            freed += sum(path.stat().st_size for path in checkpoints.rglob("*") if path.is_file())
            shutil.rmtree(checkpoints)
        removed += 1
    return {"removed": removed, "freed_bytes": freed, "kept_as_referred_to": told}


def _left(folder: RunFolder, days: float) -> list[Path]:
    """The checkpoints of a run that nobody needs to go on."""
    left = []
    for status in folder.tasks():
        path = folder.task(status.task).checkpoints
        if path.is_symlink() or not path.is_dir():
            continue
        if status.status in DONE or path.stat().st_mtime < time.time() - days * DAY:
            left.append(path)
    return left


def _said(folder: RunFolder) -> list[bytes]:
    """What the files of a run say."""
    texts = []
    for part in (".", "tasks", "artifacts"):
        for name in SAYING:
            for path in folder.path.glob(name if part == "." else f"{part}/**/{name}"):
                if path.is_file() and not path.is_symlink():
                    texts.append(path.read_bytes())
    return texts


async def update_metrics(control: Control) -> dict[str, Any]:
    """Compare what phases take with what they took before: the report of performance is then at hand."""
    found = await report(control)
    slower = [name for name, phase in found.phase_performance.items() if phase.degraded]
    return {"summary": found.summary(), "degraded": slower, "recommendations": found.recommendations}


async def expire(control: Control) -> dict[str, Any]:
    """Forget what is past its time: keys of requests, confirmations, tokens that have expired a day ago."""
    counts = {}
    async with control.database.write() as connection:
        for name, statement in (
            ("idempotency_keys", delete(idempotency).where(idempotency.c.created < now() - KEPT_SECONDS)),
            ("confirmations", delete(confirmation).where(confirmation.c.expires < now())),
            ("tokens", delete(api_key).where(api_key.c.kind != "key", api_key.c.expires < now() - DAY)),
        ):
            gone: CursorResult[Any] = await connection.execute(statement)
            counts[name] = gone.rowcount
    return counts
