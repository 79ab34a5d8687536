"""Carries runs of this machine: each a process in a session of its own, which outlives the controller.

What is known of it is in the run's row: the process, so that the next controller adopts it, and what it was given. Where it
was killed it is started again, and goes on from what is done and from its checkpoints.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import select

from components.shared.runtime.code import ROOT
from components.shared.runtime.errors import ForgeError

from ...phases import PHASES
from ...runs.folder import RunFolder, checked_name
from ..context import Control
from ..settings import VARIABLES
from ..store.database import now
from ..store.tables import run
from .carrier import Held, Look
from .collector import FOLDER, FolderFollower
from .leases import write_held
from .planning import run_request
from .processes import ProcessId, here, identified, of_run, process_of
from .strip import Row

log = logging.getLogger("forge.control")

ENDINGS = {"succeeded": "succeeded", "failed": "failed", "interrupted": "cancelled"}

KEPT = ("MLFLOW_TRACKING_URI",)
"""What a run is told of the control plane's own settings. The others are secrets of a process that runs no models."""

END_SECONDS = 40.0
"""So long what was abandoned has for its checkpoints."""


class LocalCarrier:
    """See `carrier.Carrier`."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._followers: dict[str, FolderFollower] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self, held: Held) -> None:
        """See `Carrier`. A process that is there already is adopted."""
        recorded = dict(held.row["process"] or {})
        process = process_of(recorded)
        if process is not None and process.alive:
            return
        folder = self._folder(held.row)
        order = {"request": _order(self.control, held.row, folder), "outcome": str(self._outcome(held.id))}
        self._outcome(held.id).unlink(missing_ok=True)
        child = await asyncio.to_thread(self._spawn, held)
        try:
            identity = identified(child.pid)
            if identity is None:
                raise ForgeError("the process of the run has ended at once", where=str(self._log(held.id)))
            fresh = {
                **held.granted, **identity.to_json(), "starts": int(recorded.get("starts") or 0) + 1,
                "producer": await self._producer(held, folder), "told": told(folder),
            }  # fmt: skip
            await write_held(self.control, held, process=fresh, folder=str(folder.path))
        except BaseException:
            child.kill()  # it has no order yet, and has begun nothing
            child.wait()
            raise
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(order, default=str).encode() + b"\n")
            child.stdin.close()
        except OSError:  # it was killed meanwhile: the next look says so
            log.warning("the process of run %s has ended before its order", held.id)
        self._children[held.id] = child
        self._followers.pop(held.id, None)

    async def look(self, held: Held) -> Look:
        """See `Carrier`."""
        process = process_of(held.row["process"])
        folder = self._folder(held.row)
        elsewhere = process is not None and process.place != here()
        if elsewhere and not await asyncio.to_thread(folder.exists):
            return self._out_of_reach(held.row)
        if child := self._children.get(held.id):
            child.poll()
        alive = process is not None and process.alive  # before reading: what was written by then is read
        living: list[str] = []
        if not alive:
            living = [one.words for one in await asyncio.to_thread(lambda: list(of_run(folder)))]
            alive = bool(living) or (elsewhere and await asyncio.to_thread(folder.active))
        await self._collect(held, folder)
        if alive:
            return Look(True, living=living or [f"process {process.pid}"] if process else living)
        self._children.pop(held.id, None)
        self._followers.pop(held.id, None)
        ours = bool((held.row["process"] or {}).get("starts"))
        before = str((held.row["process"] or {}).get("told") or "")
        return await asyncio.to_thread(self._ending_of, held.id, folder, ours, before)

    async def cancel(self, held: Held, *, kill: bool) -> None:
        """See `Carrier`. To kill, it is asked a second time; where that was done, all of it is ended."""
        recorded = dict(held.row["process"] or {})
        folder = self._folder(held.row)
        process = process_of(recorded) or await asyncio.to_thread(runner_of, folder)
        if not kill and recorded.get("asked"):
            return
        number = signal.SIGTERM
        if kill and recorded.get("asked") == "kill":
            number = signal.SIGKILL
            for living in await asyncio.to_thread(lambda: list(of_run(folder))):
                living.process.send(number)
        await write_held(self.control, held, process={**recorded, "asked": "kill" if kill else "cancel"})
        if process is not None:
            process.send(number)

    async def abandon(self, held: Held, successor: Mapping[str, Any]) -> None:
        """See `Carrier`. A holder on this machine has adopted the process; one elsewhere begins it anew."""
        self._children.pop(held.id, None)
        self._followers.pop(held.id, None)
        process = process_of(held.row["process"])
        if process is None or not process.alive or successor.get("holder_host") == here():
            return
        log.warning("run %s has another holder, elsewhere: its processes here are ended", held.id)
        ending = asyncio.create_task(_end(process, self._folder(held.row)), name=f"end {held.id}")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def memory(self, run_ids: Mapping[str, Any]) -> dict[str, int]:
        """Bytes that the processes of each run use now."""
        runs = self.control.settings.runs.absolute()
        return {name: sum(one.memory_bytes for one in of_run(RunFolder(runs / name))) for name in run_ids}

    async def _producer(self, held: Held, folder: RunFolder) -> str:
        """Under whose name events come. A run that begins anew, in a folder without a log, numbers from 1 again."""
        known = str((held.row["process"] or {}).get("producer") or FOLDER)
        if folder.exists() or not await FolderFollower(self.control, held.id, folder, known).last():
            return known
        return f"{FOLDER}/{held.epoch}"

    async def _collect(self, held: Held, folder: RunFolder) -> None:
        producer = str((held.row["process"] or {}).get("producer") or FOLDER)
        follower = self._followers.get(held.id)
        if follower is None:
            follower = self._followers[held.id] = FolderFollower(self.control, held.id, folder, producer)
        if folder.events.is_file() or not folder.exists():
            await follower.collect(held.epoch)
        else:
            await follower.collect_without_log(held.epoch)

    def _ending_of(self, run_id: str, folder: RunFolder, ours: bool, before: str) -> Look:
        """How a run has ended of which nothing lives.

        :param ours: the process was; what one of the command line could not begin, it has said there.
        :param before: what had been `told` when it was started: an end of then is not the end of this time.
        """
        try:
            error = json.loads(self._outcome(run_id).read_text(encoding="utf-8")) if ours else None
        except (OSError, ValueError):
            error = None
        if error is not None:
            return Look(False, "failed", error=error)
        if before and told(folder) == before:
            return Look(False)
        return Look(False, ENDINGS.get(folder.read().status, "") if folder.exists() else "")

    def _out_of_reach(self, row: Row) -> Look:
        """A run of another machine whose folder is not here: its artifacts may be in the store that is ours, too."""
        store = self.control.settings.store
        if store and row["root"] == store:
            return Look(False)
        machine = str((row["process"] or {}).get("place", "")).partition("/")[0]
        runs = os.path.dirname(row["folder"])
        why = f"it ran on {machine}, and what it has made is there: forge run-pipeline --resume {row['id']} --runs {runs}"
        return Look(False, lost=why)

    def _spawn(self, held: Held) -> subprocess.Popen[bytes]:
        hidden = set(VARIABLES.values()) - set(KEPT)
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))
        )
        if gpus := held.granted.get("gpus"):
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        path = self._log(held.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "pipelines.control.services.run_process"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )

    def _folder(self, row: Row) -> RunFolder:
        return RunFolder(self.control.settings.runs.absolute() / checked_name(row["id"]))

    def _outcome(self, run_id: str) -> Path:
        return self.control.settings.folder.absolute() / "processes" / f"{run_id}.json"

    def _log(self, run_id: str) -> Path:
        return self._outcome(run_id).with_suffix(".log")


def _order(control: Control, row: Row, folder: RunFolder) -> dict[str, Any]:
    """The fields of the `RunRequest` with which a run begins, or goes on."""
    request = dict(row["request"])
    again = request.pop("again", None) or {}
    if folder.exists():
        request |= {"resume": row["id"], "start_phase": PHASES[0], **again}
    else:
        request["resume"] = None
    order: dict[str, Any] = asdict(run_request(control.settings, request, name=row["id"]))
    if not request["slots"] and (slots := (row["process"] or {}).get("slots")):
        order["slots"] = slots
    return order


def told(folder: RunFolder) -> str:
    """A mark of what a run's folder says of it, another whenever it is said anew; "" where it says nothing."""
    try:
        status = (folder.path / "run.json").stat()
    except OSError:
        return ""
    return f"{status.st_mtime_ns}-{status.st_ino}"


def runner_of(folder: RunFolder) -> ProcessId | None:
    """The process that is at a run that the command line has begun, where it was not known yet when we found the run."""
    number = folder.runner() if folder.exists() else 0
    return identified(number) if number else None


async def _end(process: ProcessId, folder: RunFolder) -> None:
    """End a run's processes: they have a while for their checkpoints."""
    process.send(signal.SIGTERM)
    for _ in range(int(END_SECONDS)):
        await asyncio.sleep(1.0)
        if not process.alive and not await asyncio.to_thread(lambda: list(of_run(folder))):
            return
    process.send(signal.SIGKILL)
    for living in await asyncio.to_thread(lambda: list(of_run(folder))):
        living.process.send(signal.SIGKILL)


async def row_now(control: Control, run_id: str) -> Row | None:
    """A run's row, with the time on the database's clock as `now`; None where it was deleted."""
    query = select(run, now().label("now")).where(run.c.id == run_id)
    async with control.database.read() as connection:
        row: Row | None = (await connection.execute(query)).mappings().first()
        return row
