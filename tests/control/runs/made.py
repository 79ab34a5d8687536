"""Who asks, and events as a run's folder tells them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from pipelines.control.auth.rights import Principal
from pipelines.control.store.events import CHANNEL_OF, NewEvent
from pipelines.runs.events import Data, Metrics, Progress
from pipelines.runs.folder import RunStatus, TaskStatus

ALICE = Principal("alice", "Alice", "operator")
BOB = Principal("bob", "Bob", "operator")
ADMIN = Principal("root", "Root", "admin")
VIEWER = Principal("eve", "Eve", "viewer")

KINDS: dict[type[Any], str] = {
    RunStatus: "run",
    TaskStatus: "task",
    Progress: "progress",
    Metrics: "metric",
}


def told(n: int, data: Data, task: str = "", attempt: int = 0) -> NewEvent:
    """An event of a run's folder."""
    kind = KINDS[type(data)]
    return NewEvent(CHANNEL_OF[kind], task, attempt, "folder", n, time.time(), {"kind": kind, **asdict(data)})


def task(name: str, phase: str, status: Any, **more: Any) -> TaskStatus:
    return TaskStatus(name, phase, name, status=status, **more)
