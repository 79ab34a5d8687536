"""A run's folder: everything that a run leaves behind, and nothing that is not in it is needed to go on.

    runs/<run>/pipeline.yaml · run.json · run.lock · events.jsonl · report.html
    runs/<run>/tasks/<task>/executor_input.json · log.txt · progress.jsonl · output_metadata.json · status.json
                            checkpoints/ · parameters/<output parameter>
    runs/<run>/artifacts/<task>/<output>/

A task's name is its path in the pipeline: `evomerge-round-1-worker-2`, or with loops and nested pipelines `outer/2/inner`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.store.interface import is_safe_name

from .lock import held, holders, lock

RESERVED = ("cache", "control", "mlartifacts", "mlflow.db", "latest")
"""What is beside the runs: the index of results, what MLflow and the control plane keep; and the name of the last run."""

NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,199}")
"""What a run may be called: the name of a folder, on any file system, where it is no longer than NAME_BYTES."""

NAME_BYTES = 200


class DamagedRun(InputError, ValueError):
    """A file that a run has left cannot be understood."""


def checked_name(name: str) -> str:
    """`name`, where a run may be called so.

    :raises ConfigError: it may not.
    """
    if NAME.fullmatch(name) and name not in RESERVED and len(name.encode()) <= NAME_BYTES:
        return name
    raise ConfigError(
        f"a run cannot be called {name!r:.100}",
        where="--name",
        fix="give letters, digits, '.', '_' and '-'; --runs says in which folder it lies",
    )


State = Literal[
    "pending", "running", "stopping", "succeeded", "cached", "skipped", "failed", "cancelled", "interrupted"
]
"""How a task or a run is. A task that the run's stop has ended is cancelled; the run itself is then interrupted."""

DONE = ("succeeded", "cached", "skipped")
ENDED = (*DONE, "failed", "cancelled", "interrupted")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, all or nothing."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _inside(place: str) -> str:
    """A place of a task: in the run's folder, or an absolute path where it was imported from elsewhere."""
    if not os.path.isabs(place) and not is_safe_name(place):
        raise ValueError("the place leads out of the run's folder")
    return place


Place = Annotated[str, AfterValidator(_inside)]


@dataclass
class RunStatus:
    """What is known of a run: `run.json`. Times are Unix seconds.

    :param experiment: MLflow's; empty where the environment says it.
    :param store: where its artifacts are kept beyond this machine; empty for nowhere.
    :param cache: whether it takes what earlier runs have made of the same.
    :param process: the id of the process that runs it, or ran it last, on the machine `host`.
    """

    name: str
    status: State = "pending"
    started: float | None = None
    finished: float | None = None
    profile: str = ""
    seed: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    experiment: str = ""
    store: str = ""
    cache: bool = True
    slots: int = 0
    process: int = 0
    host: dict[str, Any] = field(default_factory=dict)


@dataclass
class TaskStatus:
    """What is known of a task: `status.json`. Times are Unix seconds; paths inside the run's folder are relative to it.

    :param digests: of its output artifacts, as they were when it ended; `input_digests` of what it was given.
    """

    task: str
    phase: str
    component: str
    step: str = ""
    iteration: int | None = None
    depends_on: list[str] = field(default_factory=list)
    status: State = "pending"
    attempts: int = 0
    started: float | None = None
    finished: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    exit_code: int | None = None
    cache_key: str = ""
    inputs: dict[str, list[Place]] = field(default_factory=dict)
    input_digests: dict[str, list[str]] = field(default_factory=dict)
    outputs: dict[str, Place] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    error: str = ""


Status = TypeVar("Status", RunStatus, TaskStatus)

ADAPTERS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (RunStatus, TaskStatus)}


@dataclass(frozen=True)
class TaskFolder:
    """The places of one task."""

    run: Path
    task: str

    @property
    def path(self) -> Path:
        """The task's own folder."""
        return self.run / "tasks" / self.task

    @property
    def executor_input(self) -> Path:
        """What the task is given, as KFP's executor input."""
        return self.path / "executor_input.json"

    @property
    def log(self) -> Path:
        """What its process writes to stdout and stderr, all attempts one behind the other."""
        return self.path / "log.txt"

    @property
    def progress(self) -> Path:
        """Its progress, a JSON line each time."""
        return self.path / "progress.jsonl"

    @property
    def output_metadata(self) -> Path:
        """What it says of its outputs, as KFP's executor output."""
        return self.path / "output_metadata.json"

    @property
    def checkpoints(self) -> Path:
        """Where it keeps what a restart goes on from."""
        return self.path / "checkpoints"

    def parameter(self, name: str) -> Path:
        """Where the task writes its output parameter `name`."""
        return self.path / "parameters" / name

    def output(self, name: str) -> Path:
        """Where the task writes its output artifact `name`."""
        return self.run / "artifacts" / self.task / name

    def read(self) -> TaskStatus | None:
        """The status on disk, None before there is one."""
        path = self.path / "status.json"
        return _status(path, TaskStatus, task={"task": self.task}) if path.is_file() else None

    def write(self, status: TaskStatus) -> None:
        """Put the status on disk."""
        write_json(self.path / "status.json", asdict(status))


@dataclass(frozen=True)
class RunFolder:
    """A run on disk."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.path.name

    @property
    def pipeline(self) -> Path:
        """The compiled pipeline that it runs."""
        return self.path / "pipeline.yaml"

    def task(self, name: str) -> TaskFolder:
        """The places of the task `name`."""
        return TaskFolder(self.path, name)

    @property
    def events(self) -> Path:
        """The log of its events."""
        return self.path / "events.jsonl"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "run.json").is_file()

    def read(self) -> RunStatus:
        """What run.json says; of keys that are not known here nothing.

        :raises DamagedRun: it cannot be understood.
        """
        return _status(self.path / "run.json", RunStatus, run={"name": self.name})

    def write(self, status: RunStatus) -> None:
        """Put the run's status on disk."""
        write_json(self.path / "run.json", asdict(status))

    def tasks(self) -> Iterator[TaskStatus]:
        """Every task that is known so far, in the order in which they started; those that did not come last.

        :raises DamagedRun: the status of one cannot be understood.
        """
        tasks = self.path / "tasks"
        statuses = [
            _status(path, TaskStatus, task={"task": path.parent.relative_to(tasks).as_posix()})
            for path in tasks.glob("**/status.json")
        ]
        yield from sorted(statuses, key=lambda status: (status.started or time.time(), status.task))

    def relative(self, path: Path) -> str:
        """`path` from the run's folder where it lies in it, else as it is."""
        return str(path.relative_to(self.path)) if path.is_relative_to(self.path) else str(path)

    def lock(self) -> IO[str]:
        """Hold the run for this process and its children: while one of them lives, nobody else may go on with it.

        :raises LostRace: someone is at it.
        """
        return lock(self._lock)

    def active(self) -> bool:
        """Whether a process is at it."""
        return held(self._lock)

    def runner(self) -> int:
        """The process that runs it and can be asked to stop; 0 where there is none on this machine.

        What run.json says is believed only of a process that has the run's lock: a signal goes to no other.
        """
        process = self.read().process
        if not Path("/proc/self/fd").is_dir():  # no way to know
            return process if process > 1 and self.active() else 0
        return process if process in holders(self._lock) else 0

    @property
    def _lock(self) -> Path:
        return self.path / "run.lock"


def _status(
    path: Path, kind: type[Status], *, task: Mapping[str, str] = {}, run: Mapping[str, str] = {}
) -> Status:
    """What a file says of a run or a task; of keys that are not known here nothing.

    :param task: what its place says of it, which it cannot say otherwise.
    :param run: what it may leave out.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):  # a pipe would be waited for
            raise TypeError("it is no file of its own")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("it holds no keys")
        status: Status = ADAPTERS[kind].validate_python({**run, **content, **task})
    except (ValueError, TypeError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" if problem else str(error)
        raise DamagedRun(
            "this file of a run is damaged",
            where=str(path),
            why=why,
            fix="remove the run's folder, or start the run again under another name",
        ) from error
    return status


def readable(runs: Path) -> Iterator[tuple[RunFolder, RunStatus]]:
    """The runs below `runs`, and what each says of itself; one that is damaged is passed over, and hides no other."""
    for path in runs.glob("*/run.json"):
        with contextlib.suppress(OSError, DamagedRun):
            yield RunFolder(path.parent), RunFolder(path.parent).read()


def find(runs: Path, name: str = "latest") -> RunFolder:
    """The run `name` below `runs`, or a run's folder itself; `latest` is the one started last.

    :raises InputError: there is none.
    """
    if name == "latest":
        started = [(status.started or 0.0, folder.path) for folder, status in readable(runs)]
        if started:
            return RunFolder(max(started)[1].resolve())
        raise InputError("there is no run yet", where=str(runs), fix="start one: forge run-pipeline")
    for folder in (runs / name, Path(name)):
        if (folder / "run.json").is_file():
            return RunFolder(folder.resolve())
    known = sorted(path.parent.name for path in runs.glob("*/run.json"))
    raise InputError(
        f"there is no run {name!r}",
        where=str(runs),
        fix=f"the runs here are {', '.join(known[-8:])}" if known else "start one: forge run-pipeline",
    )
