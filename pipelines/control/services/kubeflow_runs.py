"""Carries runs on Kubeflow Pipelines: submits them, looks at them every five seconds, reads what their pods leave.

The cluster does the work and goes on without us. What is known of a run is in its row: KFP's id, and the root in its store.
A run is called cancelled when KFP says so and no pod of it is left, as far as pods can be seen from here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.shared.runtime.artifact.manifest import MANIFEST, decode
from components.shared.runtime.errors import ForgeError
from components.shared.runtime.store.uri import open_store

from ...kubeflow.follow import ending
from ...kubeflow.http import NotFound
from ...kubeflow.server import Server
from ...kubeflow.state.pods import problem
from ...kubeflow.state.run import Watcher
from ...kubeflow.state.tasks import CANCELING
from ...phases import PHASES
from ...runs.state import RunState
from ..context import Control
from ..store.events import LeaseLost
from . import kubeflow_events, run_secret
from .carrier import Held, Look
from .chunks import ChunkReader
from .kubeflow_submission import access_of, submitted
from .leases import write_held
from .models import register
from .projection import record

log = logging.getLogger("forge.control")

LOOK_SECONDS = 5.0
RETRY_SECONDS = 30.0
"""So long KFP may take to show that a run goes on again."""

ENDINGS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "skipped": "succeeded"}


@dataclass
class Watched:
    """What one process keeps of a run between two looks; nothing that cannot be found again.

    :param last: the number of the last event that KFP's state has made.
    :param living: the pods of the last look, by name, with their tasks.
    :param notes: what was said of the looking.
    :param asked: what was asked of the run at the last look.
    """

    watcher: Watcher
    last: int
    chunks: ChunkReader | None = None
    living: dict[str, str] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    asked: str = ""
    at: float = float("-inf")
    look: Look | None = None


class KubeflowCarrier:
    """See `carrier.Carrier`."""

    def __init__(self, control: Control, *, every: float = LOOK_SECONDS) -> None:
        self.control = control
        self.server = Server(access_of(control.settings))
        self.every = every
        self._watched: dict[str, Watched] = {}

    async def start(self, held: Held) -> None:
        """See `Carrier`. A run that KFP has already is adopted; one that has ended there goes on."""
        kfp_id = str(held.row["kfp_id"])
        again = (held.row["request"] or {}).get("again") or {}
        self._watched.pop(held.id, None)
        if kfp_id and again.get("start_phase", PHASES[0]) == PHASES[0]:
            await self._go_on(held, kfp_id)
            return
        name = held.id if not kfp_id else f"{held.id}-v{held.row['version']}"
        new = await asyncio.to_thread(self._found, name) or await self._submitted(held, name, kfp_id, again)
        await write_held(self.control, held, kfp_id=new, kfp_host=self.server.host, root="")

    async def look(self, held: Held) -> Look:
        """See `Carrier`. What was seen less than five seconds ago is not looked at again."""
        watched = await self._watched_of(held)
        asked = str(held.row["asked"])
        soon = time.monotonic() - watched.at < self.every and asked == watched.asked
        if watched.look is not None and soon:
            return watched.look
        watched.look = await self._looked(held, watched)
        watched.at, watched.asked = time.monotonic(), asked
        if not watched.look.alive:
            self._watched.pop(held.id, None)
        return watched.look

    async def cancel(self, held: Held, *, kill: bool) -> None:
        """See `Carrier`. KFP ends its pods; to kill, those that live are deleted, too."""
        watched = await self._watched_of(held)
        if watched.asked != held.row["asked"] or kill:
            await asyncio.to_thread(self.server.terminate, watched.watcher.run)
            log.info("run %s: KFP was asked to end it", held.id)
        kubernetes = watched.watcher.kubernetes
        if kill and kubernetes is not None:
            for pod in watched.watcher.living:
                await asyncio.to_thread(kubernetes.delete_pod, pod)

    async def abandon(self, held: Held, successor: Mapping[str, Any]) -> None:
        """See `Carrier`. The cluster has the run in its hands, and its new holder looks at it."""
        self._watched.pop(held.id, None)

    # -- beginning

    def _found(self, name: str) -> str:
        """The run that KFP has under this name: submitted before, by a holder that could not write it down."""
        try:
            return self.server.find(name)
        except NotFound:
            return ""

    async def _submitted(self, held: Held, name: str, before: str, again: Mapping[str, Any]) -> str:
        watcher = await asyncio.to_thread(Watcher.of, self.server, "")
        secret = await run_secret.made(self.control, held.id, watcher.kubernetes)
        try:
            return await asyncio.to_thread(
                submitted, self.control.settings, self.server, held.row, name, before, again, secret
            )
        except ForgeError:
            await run_secret.removed(self.control, held.id, watcher.kubernetes)
            raise

    async def _go_on(self, held: Held, kfp_id: str) -> None:
        watcher = await asyncio.to_thread(Watcher.of, self.server, kfp_id)
        seen = await asyncio.to_thread(watcher.look)
        if seen.state not in ("failed", "cancelled"):
            return
        await run_secret.made(self.control, held.id, watcher.kubernetes)
        await asyncio.to_thread(self.server.retry, kfp_id)
        until = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < until:
            seen = await asyncio.to_thread(watcher.look)
            if seen.state not in ("failed", "cancelled"):
                return
            await asyncio.sleep(min(1.0, self.every))

    # -- looking

    async def _watched_of(self, held: Held) -> Watched:
        kfp_id = str(held.row["kfp_id"])
        watched = self._watched.get(held.id)
        if watched is None or watched.watcher.run != kfp_id:
            watcher = await asyncio.to_thread(Watcher.of, self.server, kfp_id)
            last = await kubeflow_events.last_number(self.control, held.id)
            watched = self._watched[held.id] = Watched(watcher, last)
        return watched

    async def _looked(self, held: Held, watched: Watched) -> Look:
        if not held.row["kfp_id"]:
            return Look(
                False,
                lost="it was never submitted to Kubeflow, or the database does not know it: start it anew",
            )
        try:
            seen = await asyncio.to_thread(watched.watcher.look)
        except NotFound as error:
            await run_secret.removed(self.control, held.id, watched.watcher.kubernetes)
            return Look(False, lost=f"KFP does not know it any more ({error.where}): start it anew")
        living = [f"pod {pod.name}" for pod in watched.watcher.living]
        said = str(watched.watcher.answer.get("state", "")).upper()
        alive = not seen.ended or bool(living) or said in CANCELING
        await self._collect(held, watched, seen, everything=not alive)
        await self._write_down(held, watched, seen)
        if alive:
            return Look(True, living=living or [f"KFP's run {seen.id} is {said}"])
        await run_secret.removed(self.control, held.id, watched.watcher.kubernetes)
        return Look(False, ENDINGS[seen.state], error=await asyncio.to_thread(_error, watched.watcher, seen))

    async def _collect(self, held: Held, watched: Watched, seen: RunState, *, everything: bool) -> None:
        """Read what the pods have left. A store that does not answer is said, and read later."""
        if watched.chunks is None or watched.chunks.root != seen.root:
            watched.chunks = ChunkReader(seen.root)
            await write_held(self.control, held, root=seen.root)
        living = {
            task.title: str(task.progress["process"]) for task in seen.tasks if task.progress.get("process")
        }
        store = watched.watcher.store
        if store is not None and store.problem:  # the watcher's notes say it
            return
        try:
            await watched.chunks.collect(
                self.control, held.id, epoch=held.epoch, living=living, everything=everything
            )
        except LeaseLost:
            raise
        except ForgeError as error:
            seen.notes.append(f"the pods' events are not read: {error}")

    async def _write_down(self, held: Held, watched: Watched, seen: RunState) -> None:
        known = await kubeflow_events.known_tasks(self.control, held.id)
        said = [note for note in seen.notes if note not in watched.notes]
        living = {pod.name: pod.title or pod.task for pod in watched.watcher.living}
        there = {pod.name for pod in watched.watcher.pods if pod.phase not in ("Pending", "Running")} | set(
            living
        )
        if not watched.watcher.missing:
            said += [
                f"pod {name} of {task} is gone before it has ended"
                for name, task in watched.living.items()
                if name not in there
            ]
            watched.living = living
        events = kubeflow_events.differences(held.row, seen, known, said, watched.last)
        await self._register(held, watched.watcher, kubeflow_events.newly_done(events))
        if events:
            await record(self.control, held.id, events, epoch=held.epoch)
            watched.last = events[-1].n
        watched.notes |= set(seen.notes)

    async def _register(self, held: Held, watcher: Watcher, done: list[str]) -> None:
        """Enter what tasks have published into the catalogue. What cannot be read now is no reason to wait."""
        if not done or watcher.store is None:
            return
        made = await asyncio.to_thread(_manifests, watcher, done)
        async with self.control.database.write() as connection:
            for task, address, manifest in made:
                await register(connection, manifest, address, held.id, task)


def _error(watcher: Watcher, seen: RunState) -> dict[str, Any] | None:
    """Why a run has failed, with the last lines of the task that has."""
    error = ending(watcher, seen) if seen.state == "failed" else None
    if error is None:
        return None
    fix = "its log says more; POST …/retry begins again at the task that failed"
    return {"what": error.what, "where": error.where, "why": error.why, "fix": fix}


def _manifests(watcher: Watcher, done: list[str]) -> list[tuple[str, str, Any]]:
    """Task, address and manifest of what these tasks have left in the run's store."""
    found = []
    for output in watcher.store.outputs() if watcher.store else []:
        if output.task not in done:
            continue
        try:
            text = open_store(output.address).get(MANIFEST)
            found.append((output.task, output.address, decode(text, output.address)))
        except ForgeError as error:
            log.warning("the manifest of %s is passed over: %s", output.address, problem(error))
    return found
