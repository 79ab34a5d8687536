"""A run's folder: everything that a run leaves behind, and nothing that is not in it is needed to go on.

    runs/<run>/pipeline.yaml · run.json · run.lock · report.html
    runs/<run>/tasks/<task>/executor_input.json · log.txt · progress.jsonl · output_metadata.json · status.json
                            checkpoints/ · parameters/<output parameter>
    runs/<run>/artifacts/<task>/<output>/

A task's name is its path in the pipeline: `evomerge-round-1-worker-2`, or with loops and nested pipelines `outer/2/inner`.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from components.shared.runtime.errors import InputError, LostRace

State = Literal["pending", "running", "succeeded", "failed", "cancelled", "cached"]
DONE = ("succeeded", "cached")


def write_text(path: Path, text: str) -> None:
    """Write all or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`write_text`, of JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@dataclass
class Status:
    """What is known of a task. Times are Unix seconds; paths inside the run's folder are relative to it."""

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
    inputs: dict[str, list[str]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class TaskFolder:
    """The places of one task."""

    run: Path
    task: str

    @property
    def path(self) -> Path:
        return self.run / "tasks" / self.task

    @property
    def executor_input(self) -> Path:
        return self.path / "executor_input.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def progress(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def output_metadata(self) -> Path:
        return self.path / "output_metadata.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def parameter(self, name: str) -> Path:
        """Where the task writes its output parameter `name`."""
        return self.path / "parameters" / name

    def output(self, name: str) -> Path:
        """Where the task writes its output artifact `name`."""
        return self.run / "artifacts" / self.task / name

    def read(self) -> Status | None:
        """The status on disk, None before there is one."""
        path = self.path / "status.json"
        return Status(**json.loads(path.read_text())) if path.is_file() else None

    def write(self, status: Status) -> None:
        """Put the status on disk."""
        write_json(self.path / "status.json", asdict(status))

    def last_progress(self) -> dict[str, Any] | None:
        """The newest whole line of progress that counts steps."""
        if not self.progress.is_file():
            return None
        with self.progress.open("rb") as file:
            file.seek(max(0, self.progress.stat().st_size - 8192))
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is being written
        for line in reversed(lines):
            try:
                found = json.loads(line)
            except ValueError:  # the first line of the piece read may be cut
                continue
            if isinstance(found, dict) and "step" in found:
                return found
        return None


@dataclass(frozen=True)
class RunFolder:
    """A run on disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def pipeline(self) -> Path:
        return self.path / "pipeline.yaml"

    def task(self, name: str) -> TaskFolder:
        """The places of the task `name`."""
        return TaskFolder(self.path, name)

    def info(self) -> dict[str, Any]:
        """run.json."""
        found: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return found

    def write_info(self, **changes: Any) -> None:
        """Change run.json, and keep what is not mentioned."""
        before = self.info() if (self.path / "run.json").is_file() else {}
        write_json(self.path / "run.json", before | changes)

    def tasks(self) -> Iterator[Status]:
        """Every task that is known so far, in the order in which they started; those that did not come last."""
        found = [Status(**json.loads(path.read_text())) for path in self.path.glob("tasks/**/status.json")]
        yield from sorted(found, key=lambda one: (one.started or time.time(), one.task))

    def relative(self, path: Path) -> str:
        """`path` from the run's folder where it lies in it, else as it is."""
        return str(path.relative_to(self.path)) if path.is_relative_to(self.path) else str(path)

    def lock(self) -> IO[str]:
        """Hold the run for this process and its children: while one of them lives, nobody else may go on with it.

        :raises LostRace: someone is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = (self.path / "run.lock").open("a+")
        for _ in range(5):  # whoever only looks (`active`) is gone at once
            if taken := _flock(file, fcntl.LOCK_EX):
                break
            time.sleep(0.1)
        if not taken:
            file.seek(0)
            raise LostRace(
                "this run is being worked on",
                where=str(self.path),
                why=f"by process {file.read().strip() or 'unknown'}, or a phase that it started",
                fix="wait for it, or stop it with Ctrl-C",
            )
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file

    def active(self) -> bool:
        """Whether a process is at it."""
        path = self.path / "run.lock"
        if not path.exists():
            return False
        with path.open() as file:
            return not _flock(file, fcntl.LOCK_SH)


def _flock(file: IO[str], kind: int) -> bool:
    """Lock the file, for as long as it is open here or in a child. False when that cannot be done now."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find(runs: Path, name: str = "latest") -> RunFolder:
    """The run `name` below `runs`, or a run's folder itself; `latest` is the one started last.

    :raises InputError: there is none.
    """
    if name == "latest":
        found = sorted(runs.glob("*/run.json"), key=lambda path: json.loads(path.read_text())["started"])
        if found:
            return RunFolder(found[-1].parent.resolve())
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
