"""One task of a pipeline that is a process or an import: is it done already, cached, or to be run; and what became of it.

The status of every task is on disk at every moment, so that a run can be watched and gone on with from outside.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from components.shared.runtime.errors import (
    ArtifactError,
    ConfigError,
    ForgeError,
    GateFailed,
    InputError,
    Interrupted,
    PhaseFailed,
)
from components.shared.runtime.store.uri import download

from ..ir.spec import Component, Constant, Container, Importer, Task
from ..ir.values import Stored, Values, command_line, complete, executor_input, outputs_of
from ..phases import PHASES
from ..runs.folder import DONE, RunFolder, State, Status, TaskFolder, write_json
from .cache import Depot, remove
from .cache_key import ROOT, cache_key, content_digest, module_of, phase_of, step_of
from .devices import Devices, visible
from .process import Job, Outcome

FINAL = {
    error.exit_code for error in (ForgeError, ConfigError, ArtifactError, InputError, GateFailed, PhaseFailed)
}
"""Exit codes of a phase that say that another attempt would end in the same way."""


class Launch(Protocol):
    """What starts processes: `process.Launcher`, or a test that looks at what would be started."""

    async def run(self, job: Job) -> Outcome: ...
    def stop(self, grace: float) -> None: ...
    def kill(self) -> None: ...


class Unavailable(Exception):
    """A task has no outputs: it failed, it is outside the range asked for, or the run was stopped."""

    def __init__(self, task: str, why: Literal["failed", "left out", "stopped"]) -> None:
        super().__init__(f"{task}: {why}")
        self.task = task
        self.why = why


@dataclass(frozen=True)
class Place:
    """Where in the pipeline a task stands: its path, and the number of the innermost loop's turn that it is in."""

    path: tuple[str, ...] = ()
    iteration: int | None = None

    @property
    def id(self) -> str:
        return "/".join(self.path)

    def below(self, name: str) -> Place:
        """The place of the task `name` in the nested pipeline that stands here."""
        return replace(self, path=(*self.path, name))

    def turn(self, number: int) -> Place:
        """The place of one turn of the loop that stands here."""
        return Place((*self.path, str(number)), number)


@dataclass(frozen=True)
class Options:
    """How a run is to be done.

    :param slots: processes at the same time.
    :param resume: tasks that are done in the folder stay done.
    :param first: with `resume`: from this phase on, tasks run again.
    :param last: phases after this one are left for later.
    :param cache: look for results of earlier runs.
    :param environment: for every process, beside the runner's own.
    :param inherit: file descriptors that every process keeps open.
    :param grace: seconds that a phase has for its checkpoint when the run is stopped; a pod has 30 by default.
    """

    slots: int = 2
    resume: bool = False
    first: str = PHASES[0]
    last: str = PHASES[-1]
    cache: bool = True
    environment: Mapping[str, str] | None = None
    inherit: tuple[int, ...] = ()
    grace: float = 30.0


class Leaves:
    """Runs the processes and imports of one pipeline run.

    :param say: one line for the person who watches.
    """

    def __init__(
        self, folder: RunFolder, depot: Depot, launcher: Launch, options: Options, say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.depot = depot
        self.launcher = launcher
        self.options = options
        self.say = say
        self.first, self.last = PHASES.index(options.first), PHASES.index(options.last)
        self.slots = asyncio.Semaphore(options.slots)
        self.devices = Devices(visible())
        self.stopping = asyncio.Event()

    async def run(
        self, task: Task, component: Component, place: Place, inputs: Values, depends_on: Sequence[str]
    ) -> Values:
        """The outputs of a task: those that it has, those that another run made, or new ones.

        :raises Unavailable: there are none.
        """
        status = self.status(component, place)
        folder = self.folder.task(place.id)
        number = PHASES.index(status.phase) if status.phase else None
        if number is not None and number > self.last:
            raise Unavailable(place.id, "left out")
        redo = number is not None and number >= self.first > 0
        try:
            if self.options.resume and not redo and (made := await self._made(component, folder, status)):
                return made
            if number is not None and number < self.first:
                raise InputError(
                    f"{place.id} is not done in this run",
                    where=str(self.folder.path),
                    fix=f"leave out --from {self.options.first}, or give the artifact to start from by --artifact",
                )
            old_key = status.cache_key
            status = self.status(component, place, fresh=True)
            status.depends_on = list(depends_on)
            status.inputs = {
                name: [self.folder.relative(one.path) for one in group]
                for name, group in inputs.artifacts.items()
            }
            if isinstance(component.body, Importer):
                return await self._import(component, component.body, inputs, folder, status)
            inputs = Values(complete(inputs.parameters, component.parameters, place.id), inputs.artifacts)
            status.cache_key = await asyncio.to_thread(cache_key, component, inputs)
            if self.options.cache and task.cached:
                found = await asyncio.to_thread(
                    self.depot.recall, status.cache_key, component, folder, self.say
                )
                if found is not None:
                    return await self._finish(component, folder, status, found, "cached")
            for name in component.output_artifacts:
                if old_key != status.cache_key or not (folder.output(name) / "forge.json").is_file():
                    remove(folder.output(name))  # what a process that was killed may have left
            await self._attempts(task, component, folder, status, inputs)
            digests = {
                name: await asyncio.to_thread(_digest, folder.output(name))
                for name in component.output_artifacts
            }
            values = await self._finish(component, folder, status, digests, "succeeded")
            await asyncio.to_thread(self.depot.remember, status.cache_key, folder, digests)
            return values
        except ForgeError as error:
            self._end(status, "failed", str(error))
            raise Unavailable(place.id, "failed") from error

    def stop(self) -> None:
        """Stop all processes; those that can write a checkpoint get the time to. A second call kills them."""
        if self.stopping.is_set():
            self.launcher.kill()
        self.stopping.set()
        self.launcher.stop(self.options.grace)

    # -- what a task is known to be

    def status(self, component: Component, place: Place, *, fresh: bool = False) -> Status:
        """The status of a task as it is on disk; a new one where there is none, or `fresh` is asked for."""
        found = None if fresh else self.folder.task(place.id).read()
        name = component.name.removeprefix("comp-")
        base, _, number = name.rpartition("-")  # the SDK numbers the uses of a component
        return found or Status(
            task=place.id,
            phase=phase_of(component),
            component=base if base and number.isdigit() else name,
            step=step_of(component.body) if isinstance(component.body, Container) else "",
            iteration=place.iteration,
        )

    def announce(self, component: Component, place: Place) -> None:
        """Write a task down that is to come, so that it can be seen before it starts."""
        before = self.status(component, place)
        if before.status not in DONE:
            status = self.status(component, place, fresh=True)
            status.cache_key = before.cache_key
            self.folder.task(place.id).write(status)

    def cancel(self, component: Component, place: Place, lacking: Unavailable) -> None:
        """Write down that a task will not run because another did not end well."""
        status = self.status(component, place, fresh=True)
        status.status = "cancelled"
        status.error = "the run was stopped" if lacking.why == "stopped" else f"{lacking.task} failed"
        self.folder.task(place.id).write(status)

    async def _made(self, component: Component, folder: TaskFolder, status: Status) -> Values | None:
        """The outputs of a task that an earlier start of this run has finished; None when it has to run."""
        if status.status not in DONE or isinstance(component.body, Importer):
            return None
        for name in component.output_artifacts:
            if not await asyncio.to_thread(self.depot.bring, folder.output(name)):
                return None
        digests = {name: content_digest(folder.output(name)) for name in component.output_artifacts}
        return outputs_of(component, folder, digests)

    # -- running

    async def _attempts(
        self, task: Task, component: Component, folder: TaskFolder, status: Status, inputs: Values
    ) -> None:
        """Start the process; again, after a pause, when it failed in a way that may pass."""
        container = component.body
        assert isinstance(container, Container)
        job = self._job(container, component, folder, inputs)
        pause = task.retry.pause
        while True:
            async with self.slots:
                self._check_stop(status)
                self._begin(status)
                with self.devices.one() as device:
                    outcome = await self.launcher.run(replace(job, environment={**job.environment, **device}))
            status.seconds += outcome.seconds
            status.cpu_seconds += outcome.cpu_seconds
            status.peak_memory_bytes = max(status.peak_memory_bytes, outcome.peak_memory_bytes)
            status.exit_code = outcome.exit_code
            if outcome.exit_code == 0:
                return
            interrupted = outcome.exit_code == Interrupted.exit_code and not outcome.timed_out
            if interrupted and not self.stopping.is_set():
                self.say(f"{folder.task} was asked to stop, and so the run stops")
                self.stop()
            self._check_stop(status)
            error = _words(outcome, container.timeout, folder)
            if status.attempts > task.retry.count or (module_of(container) and outcome.exit_code in FINAL):
                self._end(status, "failed", error)
                raise Unavailable(folder.task, "failed")
            self.say(f"{folder.task}: {error}; trying again in {pause:g} s")
            await self._pause(pause)
            pause = min(pause * task.retry.factor, task.retry.longest)

    def _job(self, container: Container, component: Component, folder: TaskFolder, inputs: Values) -> Job:
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
            **(self.options.environment or {}),
            **container.environment,
        }
        return Job(arguments, environment, ROOT, folder.log, container.timeout, self.options.inherit)

    async def _import(
        self, component: Component, importer: Importer, inputs: Values, folder: TaskFolder, status: Status
    ) -> Values:
        """An artifact from elsewhere: a folder is used where it is, s3:// is downloaded."""
        [(name, slot)] = component.output_artifacts.items()
        source = importer.uri
        uri = source.value if isinstance(source, Constant) else inputs.parameters[source.name]
        self._begin(status)
        place = (await asyncio.to_thread(download, str(uri), folder.output(name))).resolve()
        digest = await asyncio.to_thread(content_digest, place)
        status.outputs = {name: self.folder.relative(place)}
        self._end(status, "succeeded")
        return Values({}, {name: (Stored(place, slot.type, digest, folder.task, importer.metadata),)})

    async def _finish(
        self,
        component: Component,
        folder: TaskFolder,
        status: Status,
        digests: Mapping[str, str],
        state: State,
    ) -> Values:
        """Read what a task has written, put it into the store, and write down that it is done."""
        values = outputs_of(component, folder, digests)
        for group in values.artifacts.values():
            for one in group:
                await asyncio.to_thread(self.depot.keep, one.path)
        status.outputs = {name: self.folder.relative(folder.output(name)) for name in values.artifacts}
        self._end(status, state)
        return values

    def _begin(self, status: Status) -> None:
        status.attempts += 1
        status.status = "running"
        status.started = status.started or time.time()
        self.folder.task(status.task).write(status)
        self.say(f"{status.task}: started" + (f" (attempt {status.attempts})" if status.attempts > 1 else ""))

    def _end(self, status: Status, state: State, error: str = "") -> None:
        status.status, status.error, status.finished = state, error, time.time()
        status.started = status.started or status.finished
        self.folder.task(status.task).write(status)
        took = "" if state == "cached" else f" after {status.seconds:.1f} s"
        self.say(f"{status.task}: {state}{took}" + (f": {error}" if error else ""))

    def _check_stop(self, status: Status) -> None:
        if self.stopping.is_set():
            self._end(status, "cancelled", "the run was stopped")
            raise Unavailable(status.task, "stopped")

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


def _words(outcome: Outcome, timeout: float, folder: TaskFolder) -> str:
    """What went wrong, for a person: the exit code, and the last line that the process wrote."""
    if outcome.timed_out:
        return f"it ran longer than its {timeout:g} s"
    if outcome.exit_code == 137:
        return "it was killed (SIGKILL), most often because memory ran out"
    text = folder.log.read_text(errors="replace") if folder.log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return f"exit code {outcome.exit_code}" + (f": {lines[-1].strip()}" if lines else "")
