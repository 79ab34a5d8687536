"""One task of a pipeline that is a process or an import: is it done already, cached, or to be run; and what became of it.

The status of every task is on disk at every moment, so that a run can be gone on with; each change is an event, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from components.shared.runtime import disk
from components.shared.runtime.code import ROOT
from components.shared.runtime.errors import (
    ArtifactError,
    ConfigError,
    ForgeError,
    GateFailed,
    InputError,
    Interrupted,
    PhaseFailed,
)
from components.shared.runtime.store.local_copy import download

from ..ir.spec import Component, Constant, Container, Importer, Task
from ..ir.values import Stored, Values, command_line, complete, executor_input, outputs_of
from ..runs.events import Failure
from ..runs.folder import DONE, RunFolder, State, TaskFolder, TaskStatus, write_json
from ..runs.log import EventLog
from ..runs.state import RunState
from .cache import ArtifactCache, remove
from .cache_key import cache_key, content_digest, is_whole, module_of, phase_of, step_of
from .feed import TaskFeed
from .options import Position, RunOptions, UpstreamUnavailable
from .processes.devices import Devices, visible
from .processes.fork_server import ForkServerLost
from .processes.pool import ProcessResult, ProcessSpec

FINAL = {
    error.exit_code for error in (ForgeError, ConfigError, ArtifactError, InputError, GateFailed, PhaseFailed)
}
"""Exit codes of a phase that say that another attempt would end in the same way."""


class Processes(Protocol):
    """What starts processes: `ProcessPool`, or a test that looks at what would be started."""

    async def run(self, spec: ProcessSpec) -> ProcessResult:
        """Start a process and wait for its end."""
        ...

    def stop(self, grace: float) -> None:
        """Ask all to end, and kill them after `grace` seconds."""
        ...

    def kill(self) -> None:
        """Kill all."""
        ...


class TaskRunner:
    """Runs the processes and imports of one pipeline run.

    :param events: where everything that happens is written down.
    :param before: the run as its events tell it, where it goes on.
    """

    def __init__(
        self,
        folder: RunFolder,
        cache: ArtifactCache,
        processes: Processes,
        options: RunOptions,
        events: EventLog,
        before: RunState | None = None,
    ) -> None:
        self.folder = folder
        self.cache = cache
        self.processes = processes
        self.options = options
        self.events = events
        self.before = before or RunState()
        self.slots = asyncio.Semaphore(options.slots)
        self.devices = Devices(visible())
        self.stopping = asyncio.Event()

    async def run(
        self, task: Task, component: Component, position: Position, inputs: Values, depends_on: Sequence[str]
    ) -> Values:
        """The outputs of a task: those that it has, those that another run made, or new ones.

        :raises UpstreamUnavailable: there are none.
        """
        status = self.status(component, position)
        folder = self.folder.task(position.id)
        if self.options.left_out(status.phase):
            raise UpstreamUnavailable(position.id, "left out")
        try:
            keep = self.options.resume and not self.options.again(status.phase)
            if keep and (kept := await self._kept(component, folder, status, inputs)):
                return kept
            if self.options.given(status.phase):
                raise InputError(
                    f"{position.id} is not done in this run",
                    where=str(self.folder.path),
                    fix=f"leave out --from {self.options.first}, or give the artifact to start from by --artifact",
                )
            old_key = status.cache_key
            status = self.status(component, position, fresh=True)
            status.depends_on = list(depends_on)
            status.inputs = {
                name: [self.folder.relative(stored.path) for stored in group]
                for name, group in inputs.artifacts.items()
            }
            status.input_digests = inputs.digests
            if isinstance(component.body, Importer):
                return await self._import(component, component.body, inputs, folder, status)
            inputs = Values(complete(inputs.parameters, component.parameters, position.id), inputs.artifacts)
            status.cache_key = await asyncio.to_thread(cache_key, component, inputs)
            if self.options.cache and task.cached:
                cached = await asyncio.to_thread(
                    self.cache.recall, status.cache_key, component, folder, self._say(position.id)
                )
                if cached is not None:
                    return await self._finish(component, folder, status, cached, "cached")
            for name in component.output_artifacts:
                if old_key != status.cache_key or not await asyncio.to_thread(is_whole, folder.output(name)):
                    remove(folder.output(name))  # what a process that was killed may have left
            await self._attempts(task, component, folder, status, inputs)
            digests = {
                name: await asyncio.to_thread(_digest, folder.output(name))
                for name in component.output_artifacts
            }
            values = await self._finish(component, folder, status, digests, "succeeded")
            await asyncio.to_thread(self.cache.remember, status.cache_key, component, folder, digests)
            return values
        except (ForgeError, OSError) as raised:
            error = raised if isinstance(raised, ForgeError) else disk.refusal(raised)
            if error is None:
                raise
            self._fail(
                status, Failure(error.what, error.where, error.why, error.fix, error.exit_code), str(error)
            )
            raise UpstreamUnavailable(position.id, "failed") from raised

    def stop(self) -> None:
        """Stop all processes; those that can write a checkpoint get the time to. A second call kills them."""
        if self.stopping.is_set():
            self.processes.kill()
            return
        self.stopping.set()
        self.processes.stop(self.options.grace)

    # -- what a task is known to be

    def status(self, component: Component, position: Position, *, fresh: bool = False) -> TaskStatus:
        """The status of a task as it is on disk; a new one where there is none, or `fresh` is asked for."""
        known = None if fresh else self.folder.task(position.id).read()
        return known or new_status(component, position)

    def announce(self, component: Component, position: Position, depends_on: Sequence[str]) -> None:
        """Write a task down that is to come, so that it can be seen before it starts."""
        status = self.status(component, position)
        if status.status not in DONE:
            status = replace(new_status(component, position), cache_key=status.cache_key)
            status.depends_on = list(depends_on)
        self._write(status)

    def cancel(self, component: Component, position: Position, lacking: UpstreamUnavailable) -> None:
        """Write down that a task will not run because another did not end well."""
        status = self.status(component, position, fresh=True)
        status.status = "cancelled"
        status.error = "the run was stopped" if lacking.why == "stopped" else f"{lacking.task} failed"
        self._write(status)

    def fail(self, position: Position, error: ForgeError) -> None:
        """Write down why a loop or a nested pipeline has not begun: it has no status of its own."""
        failure = Failure(error.what, error.where, error.why, error.fix, error.exit_code)
        self.events.append(failure, task=position.id)

    async def _kept(
        self, component: Component, folder: TaskFolder, status: TaskStatus, inputs: Values
    ) -> Values | None:
        """The outputs of a task that an earlier start of this run has finished; None when it has to run.

        Every byte is read: a disk may have lost some since.
        """
        if status.status not in DONE or isinstance(component.body, Importer):
            return None
        try:
            for name in component.output_artifacts:
                if not await asyncio.to_thread(self.cache.bring, folder.output(name)):
                    return None
            digests = {
                name: await asyncio.to_thread(content_digest, folder.output(name), verify=True)
                for name in component.output_artifacts
            }
            if status.digests not in ({}, digests):
                raise ArtifactError("it is not what the task has written", where=str(folder.path))
            values = outputs_of(component, folder, digests)
        except ForgeError as error:
            self._say(folder.task)(f"its result is damaged, and so it runs again: {error}")
            return None
        if status.input_digests not in ({}, inputs.digests):
            self._say(folder.task)("its inputs are not those that it had, and so it runs again")
            return None
        return values

    # -- running

    async def _attempts(
        self, task: Task, component: Component, folder: TaskFolder, status: TaskStatus, inputs: Values
    ) -> None:
        """Start the process; again, after a pause, when it failed in a way that may pass."""
        container = component.body
        assert isinstance(container, Container)
        spec = self._spec(container, component, folder, inputs)
        known = self.before.task(folder.task)
        feed = TaskFeed(
            folder, self.events, known.log_bytes if known else 0, known.progress_bytes if known else 0
        )
        pause = task.retry.pause
        while True:
            async with self.slots:
                self._check_stop(status)
                self._begin(status)
                with self.devices.least_busy() as device:
                    environment = {**spec.environment, **device}
                    async with feed.flowing(status.attempts):
                        result = await self._run(replace(spec, environment=environment))
            if isinstance(result, ProcessResult):
                status.seconds += result.seconds
                status.cpu_seconds += result.cpu_seconds
                status.peak_memory_bytes = max(status.peak_memory_bytes, result.peak_memory_bytes)
                status.exit_code = result.exit_code
                if result.exit_code == 0:
                    feed.result(status.attempts)
                    return
                interrupted = result.exit_code == Interrupted.exit_code and not result.timed_out
                if interrupted and not self.stopping.is_set():
                    self.events.say("asked to stop by someone else, and so the run stops", task=folder.task)
                    self.stop()
                error = _reason(result, container.timeout, folder)
                final = bool(module_of(container)) and result.exit_code in FINAL
            else:
                error, final = str(result), False
            self._check_stop(status)
            if status.attempts > task.retry.count or final:
                failure = Failure(error, where=str(folder.log), exit_code=status.exit_code)
                self._fail(status, failure, error)
                raise UpstreamUnavailable(folder.task, "failed")
            self.events.say(
                f"{error}; trying again in {pause:g} s", task=folder.task, attempt=status.attempts
            )
            await self._pause(pause)
            pause = min(pause * task.retry.factor, task.retry.longest)

    async def _run(self, spec: ProcessSpec) -> ProcessResult | ForkServerLost:
        try:
            return await self.processes.run(spec)
        except ForkServerLost as error:
            return error

    def _spec(
        self, container: Container, component: Component, folder: TaskFolder, inputs: Values
    ) -> ProcessSpec:
        """The process of a task, with its input written down and its output folders made."""
        request = executor_input(component, inputs, folder)
        write_json(folder.executor_input, request)
        for name in component.output_artifacts:
            folder.output(name).parent.mkdir(parents=True, exist_ok=True)
        for name in component.output_parameters:
            folder.parameter(name).parent.mkdir(parents=True, exist_ok=True)
        folder.output_metadata.unlink(missing_ok=True)
        arguments = command_line(container, request)
        if arguments[0] in ("python", "python3"):
            arguments[0] = sys.executable
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
            "PYTHONUNBUFFERED": "1",
            "FORGE_TASK": folder.task,
            "FORGE_PROGRESS": str(folder.progress),
            "FORGE_CHECKPOINTS": str(folder.checkpoints),
            "FORGE_PIPELINE_RUN": self.folder.name,
            **self.options.environment,
            **container.environment,
        }
        return ProcessSpec(arguments, environment, ROOT, folder.log, container.timeout, self.options.inherit)

    async def _import(
        self, component: Component, importer: Importer, inputs: Values, folder: TaskFolder, status: TaskStatus
    ) -> Values:
        """An artifact from elsewhere: a folder is used where it is, s3:// is downloaded."""
        [(name, slot)] = component.output_artifacts.items()
        source = importer.uri
        uri = source.value if isinstance(source, Constant) else inputs.parameters[source.name]
        self._begin(status)
        path = (await asyncio.to_thread(download, str(uri), folder.output(name))).resolve()
        digest = await asyncio.to_thread(content_digest, path)
        status.outputs = {name: self.folder.relative(path)}
        self._end(status, "succeeded")
        return Values({}, {name: (Stored(path, slot.type, digest, folder.task, importer.metadata),)})

    async def _finish(
        self,
        component: Component,
        folder: TaskFolder,
        status: TaskStatus,
        digests: Mapping[str, str],
        state: State,
    ) -> Values:
        """Read what a task has written, put it into the store, and write down that it is done."""
        values = outputs_of(component, folder, digests)
        for group in values.artifacts.values():
            for stored in group:
                await asyncio.to_thread(self.cache.keep, stored.path)
        status.outputs = {name: self.folder.relative(folder.output(name)) for name in values.artifacts}
        status.digests = dict(digests)
        self._end(status, state)
        return values

    def _write(self, status: TaskStatus) -> None:
        """Every change of a task goes through here: onto the disk, then to whoever listens."""
        self.folder.task(status.task).write(status)
        self.events.append(status, task=status.task, attempt=status.attempts)

    def _begin(self, status: TaskStatus) -> None:
        status.attempts += 1
        status.status = "running"
        status.started = status.started or time.time()
        self._write(status)

    def _end(self, status: TaskStatus, state: State, error: str = "") -> None:
        status.status, status.error, status.finished = state, error, time.time()
        status.started = status.started or status.finished
        self._write(status)

    def _fail(self, status: TaskStatus, failure: Failure, error: str) -> None:
        self.events.append(failure, task=status.task, attempt=status.attempts)
        self._end(status, "failed", error)

    def _say(self, task: str) -> Callable[[str], None]:
        return lambda text: self.events.say(text, task=task)

    def _check_stop(self, status: TaskStatus) -> None:
        if self.stopping.is_set():
            self._end(status, "cancelled", "the run was stopped")
            raise UpstreamUnavailable(status.task, "stopped")

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return


def _digest(path: Path) -> str:
    """The digest of what a task has written. PhaseFailed when it has written nothing."""
    if not path.exists():
        raise PhaseFailed("the task ended without its output", where=str(path), fix="look into its log")
    return content_digest(path)


def _reason(result: ProcessResult, timeout: float, folder: TaskFolder) -> str:
    """What went wrong, for a person: the exit code, and the last line that the process wrote."""
    if result.timed_out:
        return f"it ran longer than its {timeout:g} s"
    if result.exit_code == 137:
        return "it was killed (SIGKILL), most often because memory ran out"
    text = folder.log.read_text(errors="replace") if folder.log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return f"exit code {result.exit_code}" + (f": {lines[-1].strip()}" if lines else "")


def new_status(component: Component, position: Position) -> TaskStatus:
    """The status of a task of which nothing is known but its component and where it stands."""
    name = component.name.removeprefix("comp-")
    base, _, number = name.rpartition("-")  # the SDK numbers the uses of a component
    return TaskStatus(
        task=position.id,
        phase=phase_of(component),
        component=base if base and number.isdigit() else name,
        step=step_of(component.body) if isinstance(component.body, Container) else "",
        iteration=position.iteration,
    )
