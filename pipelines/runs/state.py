"""A run as it stands: one record for runs of this machine and of a cluster, for every view of them.

On this machine it is what the run's events add up to (`RunState.apply`, which looks at nothing but the event). Of a run
on Kubeflow, which has no log of events, `pipelines/kubeflow/state/run.py` fills the same record from what the cluster says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .events import (
    ErrorEvent,
    Event,
    Failure,
    LogEvent,
    MetricEvent,
    ProgressEvent,
    RunEvent,
    TaskEvent,
    event_of,
)
from .folder import DONE, ENDED, RunFolder, State, TaskStatus
from .log import EventReader


@dataclass
class TaskState:
    """A task.

    :param name: in the graph.
    :param title: what people call it; the last part of the name where nothing else is known.
    :param why: it failed, was cancelled, or waits.
    :param progress: stage, step, total, eta and time of the last line that it has written; empty before the first.
    :param metrics: the last value of each.
    :param pod: of a cluster, where it runs.
    :param log_bytes: so much of its log is in the events; `progress_bytes` is the same for its progress.
    """

    name: str
    title: str
    phase: str
    component: str = ""
    step: str = ""
    state: State = "pending"
    attempts: int = 0
    started: float | None = None
    finished: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    exit_code: int | None = None
    why: str = ""
    depends_on: list[str] = field(default_factory=list)
    inputs: dict[str, list[str]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    pod: str = ""
    log_bytes: int = 0
    progress_bytes: int = 0

    @property
    def done(self) -> bool:
        """Whether its outputs are there."""
        return self.state in DONE

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1: a running one by the steps of its stage."""
        if self.state == "running" and self.progress.get("total"):
            return min(1.0, float(self.progress.get("step", 0)) / float(self.progress["total"]))
        return float(self.done)

    def left(self, now: float) -> float | None:
        """Seconds that its stage still needs; None where that is not known."""
        eta = self.progress.get("eta")
        if self.state != "running" or eta is None:
            return None
        return float(eta) - (now - float(self.progress.get("time") or now))


@dataclass
class RunState:
    """A run.

    :param id: its name on this machine, KFP's id on a cluster.
    :param url: the run's folder, or its page.
    :param root: where its artifacts are.
    :param notes: what cannot be seen from here, and why.
    :param failures: in the order in which they happened, with the task of each.
    :param last_id: the id of the last event that is in it.
    """

    id: str = ""
    name: str = ""
    state: State = "pending"
    url: str = ""
    root: str = ""
    started: float | None = None
    finished: float | None = None
    profile: str = ""
    seed: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    tasks: list[TaskState] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    last_id: int = 0
    _by_name: dict[str, TaskState] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED

    def failed(self) -> TaskState | None:
        """The task that failed first."""
        failed = [task for task in self.tasks if task.state == "failed"]
        return min(failed, key=lambda task: task.finished or task.started or float("inf"), default=None)

    def task(self, name: str) -> TaskState | None:
        """A task by its title, or its name in the graph."""
        return self._by_name.get(name) or next(
            (task for task in self.tasks if name in (task.title, task.name)), None
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        content = asdict(self)
        content.pop("_by_name")
        content["failures"] = [{"task": task, **asdict(failure)} for task, failure in self.failures]
        return content

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        self.last_id = event.id
        if isinstance(event, RunEvent):
            run = event.data
            self.id = self.name = event.run
            self.state, self.started, self.finished = run.status, run.started, run.finished
            self.profile, self.seed, self.parameters = run.profile, run.seed, run.parameters
            return
        if isinstance(event, ErrorEvent):
            self.failures.append((event.task, event.data))
            if not event.task:
                self.error = self.error or event.data.what
            return
        task = self._task_of(event)
        if isinstance(event, TaskEvent):
            self._take(task, event.data)
        elif isinstance(event, ProgressEvent):
            progress = event.data
            task.progress = {
                "stage": progress.stage, "step": progress.step, "total": progress.total,
                "eta": progress.eta, "time": event.time,
            }  # fmt: skip
            task.progress_bytes = max(task.progress_bytes, progress.end)
        elif isinstance(event, MetricEvent):
            task.metrics |= event.data.values
        elif isinstance(event, LogEvent) and event.data.source == "task":
            task.log_bytes = max(task.log_bytes, event.data.end)

    def settle(self, *, active: bool) -> None:
        """Say the truth of a run that nobody is at any more: it, and what was running, has been interrupted."""
        if active or self.ended:
            return
        self.state = "interrupted"
        for task in self.tasks:
            if task.state == "running":
                task.state = "interrupted"

    def _task_of(self, event: Event) -> TaskState:
        if event.task not in self._by_name:
            if not event.task:  # the runner's own words, about the run
                return TaskState("", "", "")
            task = TaskState(event.task, event.task.rpartition("/")[2], "")
            self.tasks.append(task)
            self._by_name[event.task] = task
        return self._by_name[event.task]

    @staticmethod
    def _take(task: TaskState, status: TaskStatus) -> None:
        task.state, task.why = status.status, status.error
        if status.status != "running":
            task.progress = {}
        for name in (
            "phase", "component", "step", "attempts", "started", "finished", "seconds", "cpu_seconds",
            "peak_memory_bytes", "exit_code", "depends_on", "inputs", "outputs",
        ):  # fmt: skip
            setattr(task, name, getattr(status, name))


def fold(events: Iterable[Event]) -> RunState:
    """What events add up to, from the first on."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def read_state(folder: RunFolder) -> RunState:
    """A run of this machine as it stands now.

    :raises InputError: the folder's log of events is damaged.
    """
    active = folder.active()  # before reading: what ends the run in between is seen
    state = fold(_all_events(folder))
    state.id = state.name = folder.name
    state.url = state.root = str(folder.path)
    state.settle(active=active)
    return state


def _all_events(folder: RunFolder) -> Iterator[Event]:
    """Those of its log; of a run that was made before there was one, what its folder says of run and tasks."""
    if not folder.events.is_file():
        yield from told_by_folder(folder)
        return
    reader = EventReader(folder.events)
    while events := reader.read():
        yield from events


def told_by_folder(folder: RunFolder) -> Iterator[Event]:
    """What a run's folder says of it and its tasks, as the events that a log would have had."""
    run = folder.read()
    yield event_of(run, id=1, time=run.started or 0.0, run=run.name)
    for number, status in enumerate(folder.tasks(), 2):
        yield event_of(status, id=number, time=status.started or 0.0, run=run.name, task=status.task)
