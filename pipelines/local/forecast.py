"""What a run would do, found out by going through its graph without running anything."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.shared.runtime.errors import ForgeError

from ..ir.spec import Component, Constant, Importer, Pipeline, Task
from ..ir.values import Stored, Values, complete, outputs_of
from ..runs.folder import DONE, DamagedRun, RunFolder, RunStatus, TaskFolder, TaskStatus, readable
from .cache import ArtifactCache
from .cache_key import cache_key, content_digest
from .options import Position, RunOptions, UpstreamUnavailable
from .plan import Fate, PlannedTask
from .scheduler import Scheduler
from .task import new_status

EARLIER_RUNS = 30
"""So many of the last runs are asked how long a task takes."""


async def forecast(
    pipeline: Pipeline, folder: RunFolder, cache: ArtifactCache, status: RunStatus, options: RunOptions
) -> tuple[PlannedTask, ...]:
    """The tasks of a run, and what will become of each."""
    times = await asyncio.to_thread(task_seconds, folder, status)
    tasks = Forecast(folder, cache, options, times)
    await Scheduler(pipeline, status.parameters, tasks).run()
    return tuple(tasks.planned.values())


class Forecast:
    """Takes the place of `TaskRunner` in the scheduler: looks what is there, and leaves everything as it is.

    :param times: seconds by task, from earlier runs.
    """

    def __init__(
        self, folder: RunFolder, cache: ArtifactCache, options: RunOptions, times: Mapping[str, float]
    ) -> None:
        self.folder = folder
        self.cache = cache
        self.options = options
        self.times = times
        self.planned: dict[str, PlannedTask] = {}

    async def run(
        self, task: Task, component: Component, position: Position, inputs: Values, depends_on: Sequence[str]
    ) -> Values:
        """The outputs that a task has, or that an earlier run has for it.

        :raises UpstreamUnavailable: it will have to run.
        """
        if position.id not in self.planned:
            self.announce(component, position, depends_on)
        planned = self.planned[position.id]
        if planned.fate == "left out":
            raise UpstreamUnavailable(position.id, "left out")
        known: tuple[Fate, Values] | None
        try:
            if isinstance(component.body, Importer):
                return await asyncio.to_thread(_imported, component, component.body, inputs, position)
            known = await asyncio.to_thread(self._known, task, component, position, inputs)
        except (ForgeError, OSError):
            known = None  # it will run, and say then what is wrong
        if known is None:
            raise UpstreamUnavailable(position.id, "failed")
        self.planned[position.id] = replace(planned, fate=known[0], seconds=0.0)
        return known[1]

    def announce(self, component: Component, position: Position, depends_on: Sequence[str]) -> None:
        """A task is known: unless something better turns up it will run."""
        status = new_status(component, position)
        fate: Fate = "left out" if self.options.left_out(status.phase) else "run"
        seconds = self.times.get(position.id) if fate == "run" else 0.0
        if isinstance(component.body, Importer):
            seconds = 0.0
        self.planned[position.id] = PlannedTask(
            position.id, status.phase, status.component, fate, seconds, tuple(depends_on)
        )

    def cancel(self, component: Component, position: Position, lacking: UpstreamUnavailable) -> None:
        """A task before this one will run: so will this one."""

    def fail(self, position: Position, error: ForgeError) -> None:
        """What is wrong with a nested pipeline is said when it is its turn."""

    def _known(
        self, task: Task, component: Component, position: Position, inputs: Values
    ) -> tuple[Fate, Values] | None:
        folder = self.folder.task(position.id)
        phase = self.planned[position.id].phase
        if self.options.resume and not self.options.again(phase):
            status = folder.read()
            if status is not None and status.status in DONE:
                return "done", _outputs(component, folder)
        inputs = Values(complete(inputs.parameters, component.parameters, position.id), inputs.artifacts)
        if not (self.options.cache and task.cached):
            return None
        entry = self.cache.entry(cache_key(component, inputs), component)
        if entry is None:
            return None
        origin = TaskFolder(self.cache.runs / entry.run, entry.task)
        if not all(self.cache.has(origin.output(name)) for name in entry.outputs):
            return None
        return "cached", _outputs(component, origin, entry.outputs)


def _outputs(component: Component, folder: TaskFolder, digests: Mapping[str, str] | None = None) -> Values:
    """What lies in the folder of a task that is done.

    :param digests: of its artifacts; they are computed where they are not known.
    """
    if digests is None:
        digests = {name: content_digest(folder.output(name)) for name in component.output_artifacts}
    return outputs_of(component, folder, digests)


def _imported(component: Component, importer: Importer, inputs: Values, position: Position) -> Values:
    """An artifact that lies on this machine.

    :raises UpstreamUnavailable: it has to be fetched first.
    """
    [(name, slot)] = component.output_artifacts.items()
    source = importer.uri
    address = str(source.value if isinstance(source, Constant) else inputs.parameters[source.name])
    if "://" in address:
        raise UpstreamUnavailable(position.id, "failed")
    path = Path(address).resolve()
    stored = Stored(path, slot.type, content_digest(path), position.id, importer.metadata)
    return Values({}, {name: (stored,)})


# -- how long it takes


def task_seconds(folder: RunFolder, status: RunStatus) -> dict[str, float]:
    """Seconds that each task took in the newest earlier run of the same profile in which it succeeded.

    A run with the very same parameters counts before all others.
    """
    runs = [
        (known.parameters == status.parameters, known.started or 0.0, other)
        for other, known in readable(folder.path.parent)
        if known.profile == status.profile and set(known.parameters) == set(status.parameters)
    ]
    times: dict[str, float] = {}
    for tasks in earlier_tasks(other for *_, other in sorted(runs, key=lambda run: run[:2])):
        times |= {task.task: task.seconds for task in tasks if task.status == "succeeded"}
    return times


def earlier_tasks(runs: Iterable[RunFolder]) -> Iterator[list[TaskStatus]]:
    """The tasks of each of the last EARLIER_RUNS of these; of a run that is damaged none: it is that run's trouble."""
    for run in list(runs)[-EARLIER_RUNS:]:
        with contextlib.suppress(DamagedRun):
            yield list(run.tasks())


@dataclass(order=True)
class _Running:
    end: float
    name: str


def seconds_of(tasks: Sequence[PlannedTask], slots: int) -> float | None:
    """How long the tasks take when each starts as soon as those that it needs are done and a slot is free.

    :returns: seconds; None where the time of one that will run is not known.
    """
    if any(task.seconds is None for task in tasks):
        return None
    waiting = {task.name: task for task in tasks if task.fate == "run" and task.seconds}
    running: list[_Running] = []
    now = 0.0
    while waiting or running:
        busy = {*waiting, *(process.name for process in running)}
        for task in list(waiting.values()):
            blocked = any(
                name == other or name.startswith(f"{other}/") for other in task.depends_on for name in busy
            )
            if not blocked and len(running) < slots:
                heapq.heappush(running, _Running(now + (task.seconds or 0.0), task.name))
                del waiting[task.name]
        if not running:
            return None  # what is waited for is not among the tasks that will run
        now = heapq.heappop(running).end
    return now
