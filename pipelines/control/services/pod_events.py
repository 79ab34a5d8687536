"""What a pod tells, as events of its run. What it sends is not believed further than it can be checked.

A pod knows of its own process. Whether its task has ended well is KFP's to say, which has to upload the results, and may
start it again: of a pod's end the figures are taken, not the verdict.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from sqlalchemy import select

from components.shared.runtime.errors import InputError
from components.shared.runtime.store.interface import is_safe_name
from components.shared.runtime.tracking.chunks import producer

from ...runs.events import Failure, LogLines, Metrics, Progress
from ...runs.folder import ENDED, TaskStatus
from ..context import Control
from ..store.events import CHANNEL_OF, NewEvent
from ..store.tables import task as tasks

PROCESS = re.compile(r"[\w.-]{1,80}")
LONGEST_TASK = 100
LARGEST_NUMBER = 1 << 53

Known = Mapping[str, Any]
"""What is known of a task: its newest status; empty for a task that nobody has told of."""


class State(BaseModel):
    """How the process of a pod is."""

    state: str = Field(pattern="running|succeeded|failed|interrupted")
    phase: str = Field("", max_length=32)
    step: str = Field("", max_length=64)
    pod: str = Field("", max_length=253)
    host: str = Field("", max_length=253)
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    seconds: float = Field(0.0, ge=0)
    cpu_seconds: float = Field(0.0, ge=0)
    peak_memory_bytes: int = Field(0, ge=0)


class Line(BaseModel):
    """A line of a chunk (components/shared/runtime/tracking/chunks.py)."""

    n: int = Field(ge=1, le=LARGEST_NUMBER)
    time: float = Field(allow_inf_nan=False)
    kind: str = Field(max_length=32)
    attempt: int = Field(0, ge=0, le=100_000)
    data: dict[str, Any]


KINDS: Mapping[str, TypeAdapter[Any]] = {
    "progress": TypeAdapter(Progress),
    "metric": TypeAdapter(Metrics),
    "log": TypeAdapter(LogLines),
    "error": TypeAdapter(Failure),
    "state": TypeAdapter(State),
}


def check(task: str, process: str) -> None:
    """See that these are the names of a task and of a process.

    :raises InputError: they are not.
    """
    if not (is_safe_name(task) and len(task) <= LONGEST_TASK and PROCESS.fullmatch(process)):
        raise InputError("no task and process are called so", where="task, process")


async def known_of(control: Control, run: str, task: str) -> Known:
    """What is known of a task."""
    query = select(tasks.c.status).where(tasks.c.run == run, tasks.c.task == task)
    async with control.database.read() as connection:
        return await connection.scalar(query) or {}


def events_of(task: str, process: str, lines: Sequence[Mapping[str, Any]], known: Known) -> list[NewEvent]:
    """The events of lines. A kind that is not known here is passed over: the pod may be newer than this server.

    :param known: of the task.
    :raises InputError: a line is not what it should be.
    """
    events: list[NewEvent] = []
    for content in lines:
        try:
            line = Line.model_validate(content)
            adapter = KINDS.get(line.kind)
            if adapter is None:
                continue
            said = adapter.validate_python(line.data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(
                "a line of a pod's events cannot be understood",
                where=f"{task}/{process}",
                why=f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg'][:120]}",
                fix="the pod's image and this server should be of one version",
            ) from None
        kind, data = line.kind, asdict(said) if not isinstance(said, State) else {}
        if isinstance(said, State):
            kind, data = "task", status_of(task, said, line.attempt, known)
            known = data
        if isinstance(said, Progress) and not all(map(_finite, (said.step, said.total, said.eta or 0.0))):
            continue
        if isinstance(said, Metrics):
            data["values"] = {name: value if _finite(value) else None for name, value in said.values.items()}
        name = producer(task, process)
        events.append(
            NewEvent(
                CHANNEL_OF[kind], task, line.attempt, name, line.n, _time(line.time), {"kind": kind, **data}
            )
        )
    return events


def each(
    task: str, process: str, lines: Sequence[Mapping[str, Any]], known: Known
) -> Iterator[tuple[Mapping[str, Any], list[NewEvent] | InputError]]:
    """The events of lines, line by line: one that is not what it should be stands for itself and holds up no other.

    :returns: each line with its events, or with what is wrong with it.
    """
    for line in lines:
        try:
            fresh = events_of(task, process, [line], known)
        except InputError as error:
            yield line, error
            continue
        for event in fresh:
            known = event.data if event.data["kind"] == "task" else known
        yield line, fresh


def status_of(task: str, said: State, attempt: int, known: Known) -> dict[str, Any]:
    """The task's status, whole, with what its pod has to say of it."""
    status = {**asdict(TaskStatus(task, said.phase, said.phase)), **known, "task": task}
    newer = attempt > int(known.get("attempts") or 0)
    status["phase"] = known.get("phase") or said.phase
    status["attempts"] = max(attempt, int(known.get("attempts") or 0))
    if said.pod:
        status["pod"] = said.pod
    if said.state == "running":
        if newer or known.get("status") not in ENDED:
            status |= {"status": "running", "finished": None, "exit_code": None, "error": ""}
            status["started"] = (None if newer else known.get("started")) or said.started
    elif attempt >= int(known.get("attempts") or 0):  # an older process may be read late
        figures = ("exit_code", "seconds", "cpu_seconds", "peak_memory_bytes")
        status |= {name: getattr(said, name) for name in figures}
    return status


def _finite(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and abs(value) < 1e300)


def _time(given: float) -> float:
    """A pod's clock, as long as it is one."""
    now = time.time()
    return given if 0 < given < now + 86_400 else now
