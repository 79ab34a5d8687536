"""Carries a plan out: the folder, its lock, its events, the processes; and nothing that a person looks at.

    plan = prepare(RunRequest(parameters={"profile": "tiny"}))
    result = await execute(plan, print)             # each event is printed, as it happens

    run = start(plan)                               # the same, with something to hold on to
    async for event in run.events(): …
    run.stop()                                      # phases write their checkpoints; again: they are killed
    result = await run.wait()

Several runs may go on in one process and one event loop. A run whose task is cancelled stops in good order first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ForgeError, InputError, Interrupted, PhaseFailed

from ..runs.events import Event, Failure
from ..runs.folder import RunFolder, RunStatus
from ..runs.log import POLL_SECONDS, EventLog, EventReader, Listening
from ..runs.state import RunState, read_state
from .cache import ArtifactCache
from .plan import Plan
from .prepare import host
from .processes.pool import ProcessPool
from .scheduler import Ending, Scheduler
from .task import TaskRunner

LISTENER_SECONDS = 5.0
"""So long the end of a run waits for its listeners to have been told of all."""

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class RunResult:
    """A run that has come to its end.

    :param state: everything that its events add up to.
    """

    folder: RunFolder
    ending: Ending
    state: RunState

    @property
    def seconds(self) -> float:
        """From its start to its end, with the time between its resumptions."""
        return (self.state.finished or 0.0) - (self.state.started or 0.0)

    @property
    def agent(self) -> Path | None:
        """The folder of the last model that it has made; None where there is none."""
        finished = sorted(self.state.tasks, key=lambda task: task.finished or 0.0, reverse=True)
        for task in finished:
            for output in task.outputs.values() if task.done else ():
                path = self.folder.path / output
                if (path / "config.json").is_file():
                    return path
        return None

    def error(self) -> ForgeError | None:
        """What a run stands for that has not succeeded; None for success."""
        if self.ending == "succeeded":
            return None
        fix = f"go on with: forge run-pipeline --resume {self.folder.path}"
        if self.ending == "interrupted":
            return Interrupted("the run was stopped", where=str(self.folder.path), fix=fix)
        failed = self.state.failed()
        where = str(self.folder.task(failed.name).log) if failed else str(self.folder.path)
        what = f"the run has failed in {failed.name}" if failed else "the run has failed"
        return PhaseFailed(what, where=where, why=failed.why if failed else self.state.error, fix=fix)


class RunHandle:
    """A run that goes on in this event loop."""

    def __init__(self, plan: Plan, listeners: Sequence[Listener]) -> None:
        self.plan = plan
        self.folder = plan.folder
        self._listeners = listeners
        self._tasks: TaskRunner | None = None
        self._log: EventLog | None = None
        self._status: RunStatus | None = None
        self._stops = 0
        plan.folder.path.mkdir(parents=True, exist_ok=True)  # from here on the name is taken
        self._work = asyncio.create_task(self._run(), name=f"run {plan.folder.name}")

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._work.done()

    def stop(self) -> None:
        """Stop it; phases have `grace` seconds for their checkpoints. A second call kills them."""
        self._stops += 1
        if self.done:
            return
        if self._tasks is not None:
            self._tasks.stop()
        if self._stops == 1 and self._log is not None and self._status is not None:
            self._log.append(replace(self._status, status="stopping"))

    async def wait(self) -> RunResult:
        """Wait for its end. Whoever cancels the waiting stops the run, and cancels it when it has stopped.

        :raises ForgeError: it could not begin: someone else is at it, the store does not answer.
        """
        try:
            return await asyncio.shield(self._work)
        except asyncio.CancelledError:
            while not self.done:
                self.stop()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(self._work)
            raise

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events, those that are there and those that come, until it has ended.

        :param after: the id of the last event that is known already.
        """
        reader = EventReader(self.folder.events, after)
        while True:
            done = self.done  # before reading: what was written by then is read
            events = await asyncio.to_thread(reader.read)
            for event in events:
                yield event
            if not events:
                if done:
                    return
                await asyncio.wait([self._work], timeout=POLL_SECONDS)

    async def _run(self) -> RunResult:
        plan, folder = self.plan, self.folder
        cache = ArtifactCache(folder.path.parent, plan.status.store)
        if cache.remote:
            await asyncio.to_thread(cache.store.probe)
        with await asyncio.to_thread(folder.lock) as lock:
            before = await asyncio.to_thread(read_state, folder) if folder.exists() else RunState()
            if not plan.options.resume:
                if folder.exists():
                    raise InputError(
                        "there is a run of this name by now", where=str(folder.path), fix="prepare again"
                    )
                write_atomically(folder.pipeline, plan.pipeline.text)
            status = self._status = replace(
                plan.status,
                status="running",
                started=plan.status.started or time.time(),
                finished=None,
                process=os.getpid(),
                host=host(),
            )
            folder.write(status)
            log = self._log = EventLog(folder.events, folder.name)
            listening = [Listening(log, listener, log.last_id) for listener in self._listeners]
            try:
                log.append(status)
                ending = await self._schedule(cache, log, lock.fileno(), before)
            except asyncio.CancelledError:  # the event loop itself ends, and has killed the processes
                self._end(status, log, "interrupted")
                raise
            except BaseException as error:  # a bug, or a disk that is full: the run's record says so
                log.append(Failure(f"the runner has failed: {error!r:.500}"))
                self._end(status, log, "failed")
                raise
            else:
                self._end(status, log, ending)
            finally:
                await asyncio.to_thread(_finish, listening)
                log.close()
            return RunResult(folder, ending, await asyncio.to_thread(read_state, folder))

    async def _schedule(self, cache: ArtifactCache, log: EventLog, lock: int, before: RunState) -> Ending:
        options = replace(self.plan.options, inherit=(lock,))
        pool = ProcessPool(options.slots)
        tasks = self._tasks = TaskRunner(self.folder, cache, pool, options, log, before)
        try:
            if self._stops:  # asked to stop before there was anything to stop
                tasks.stop()
            lacking = await Scheduler(self.plan.pipeline, self.plan.parameters, tasks).run()
        finally:
            await pool.close()
        if lacking is None:
            return "succeeded"
        if tasks.stopping.is_set():
            return "interrupted"
        return "succeeded" if lacking.why == "left out" else "failed"

    def _end(self, status: RunStatus, log: EventLog, ending: Ending) -> None:
        status = replace(status, status=ending, finished=time.time())
        self.folder.write(status)
        log.append(status)


def start(plan: Plan, events: Listener | Sequence[Listener] = ()) -> RunHandle:
    """Begin to carry a plan out, in the event loop that is running.

    :param events: called with each event, each listener in a thread of its own; none can hold the run up.
    """
    return RunHandle(plan, (events,) if callable(events) else tuple(events))


async def execute(plan: Plan, events: Listener | Sequence[Listener] = ()) -> RunResult:
    """Carry a plan out. Cancelling stops the run in good order: phases write their checkpoints, and it can go on.

    :param events: called with each event, each listener in a thread of its own; none can hold the run up.
    :returns: how it ended, also where it failed.
    :raises ForgeError: it could not begin: someone else is at it, the store does not answer.
    """
    return await start(plan, events).wait()


def _finish(listening: Sequence[Listening]) -> None:
    until = time.monotonic() + LISTENER_SECONDS
    for listener in listening:
        listener.finish(max(0.0, until - time.monotonic()))
