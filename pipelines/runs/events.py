"""What happens in a run, as typed events: what the terminal, the report and every other listener learn of it.

An event is a line of JSON in the run's `events.jsonl`:

    {"id": 7, "time": 1764460800.0, "run": "demo", "kind": "task", "task": "bitnet", "attempt": 1, "data": {…}}

========  =================================================================================  ===================
kind      data                                                                               a later one
========  =================================================================================  ===================
run       `RunStatus`, whole: what was asked for, and how the run is                         replaces it
task      `TaskStatus`, whole: how a task is                                                 replaces it
progress  `Progress`: the stage of a running task, its step of how many, the time left       replaces it
metric    `Metrics`: what a task has measured, by name                                       adds a point
log       `LogLines`: what a task has written, or the runner has to say of it                adds lines
error     `Failure`: what went wrong, where, why, and what to do                             adds one
========  =================================================================================  ===================

Ids count from 1 without a gap in each run, also over its resumptions, so that a reader proves by itself that it
has missed nothing. A `run` or `task` event says all that is known, not what has changed: who reads only the last
one has the truth. A reader passes over kinds that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .folder import RunStatus, TaskStatus

KINDS = ("run", "task", "progress", "metric", "log", "error")


@dataclass(frozen=True)
class Progress:
    """How far a running task is: a line of its `progress.jsonl`.

    :param eta: seconds that the stage still needs; None before its first step.
    :param end: bytes of `progress.jsonl` up to and with this line.
    """

    stage: str
    step: int
    total: int
    eta: float | None = None
    end: int = 0


@dataclass(frozen=True)
class Metrics:
    """What a task has measured. A value that is no finite number is None.

    :param stage: of the task; `result` for what its finished artifact says.
    """

    values: dict[str, float | None]
    stage: str = ""
    step: int = 0


@dataclass(frozen=True)
class LogLines:
    """Whole lines of text.

    :param source: who has written them: the task itself into its `log.txt`, or the runner about it.
    :param end: bytes of `log.txt` up to and with the last line; 0 for what the runner says.
    """

    lines: list[str]
    source: Literal["task", "runner"] = "task"
    end: int = 0


@dataclass(frozen=True)
class Failure:
    """Something that went wrong, in the words of `ForgeError`.

    :param exit_code: of the process, or the one that stands for the kind of error.
    """

    what: str
    where: str = ""
    why: str = ""
    fix: str = ""
    exit_code: int | None = None


class Envelope(BaseModel):
    """What every event has.

    :param time: Unix seconds at which it happened.
    :param task: the task's name; empty for the run itself.
    :param attempt: of the task, counted from 1; 0 where none has begun.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int = Field(ge=1)
    time: float
    run: str
    task: str = ""
    attempt: int = 0


class RunEvent(Envelope):
    """The run has begun, is being stopped, or has ended."""

    kind: Literal["run"] = "run"
    data: RunStatus


class TaskEvent(Envelope):
    """A task is known, has begun, goes on or has ended."""

    kind: Literal["task"] = "task"
    data: TaskStatus


class ProgressEvent(Envelope):
    """A running task has come further."""

    kind: Literal["progress"] = "progress"
    data: Progress


class MetricEvent(Envelope):
    """A task has measured something."""

    kind: Literal["metric"] = "metric"
    data: Metrics


class LogEvent(Envelope):
    """A task has written lines, or the runner has something to say."""

    kind: Literal["log"] = "log"
    data: LogLines


class ErrorEvent(Envelope):
    """An attempt of a task, or the run, has failed."""

    kind: Literal["error"] = "error"
    data: Failure


Event = Annotated[
    RunEvent | TaskEvent | ProgressEvent | MetricEvent | LogEvent | ErrorEvent, Field(discriminator="kind")
]
Data = RunStatus | TaskStatus | Progress | Metrics | LogLines | Failure

ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
CLASSES: dict[type[Any], type[Envelope]] = {
    RunStatus: RunEvent,
    TaskStatus: TaskEvent,
    Progress: ProgressEvent,
    Metrics: MetricEvent,
    LogLines: LogEvent,
    Failure: ErrorEvent,
}


def event_of(data: Data, *, id: int, time: float, run: str, task: str = "", attempt: int = 0) -> Event:
    """The event that carries `data`."""
    kind: Any = CLASSES[type(data)]
    event: Event = kind.model_construct(id=id, time=time, run=run, task=task, attempt=attempt, data=data)
    return event


def encode(event: Event) -> bytes:
    """The event as a line of JSON, the id first."""
    return event.model_dump_json(exclude_none=False).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """The event of a line; None for a kind that is not known here, or a line that is no event."""
    try:
        return ADAPTER.validate_json(line)
    except ValidationError:
        return None


def schema() -> dict[str, Any]:
    """The JSON Schema of an event: what another program may rely on."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event of a run of Agent Forge",
        **ADAPTER.json_schema(),
    }
