"""A run line by line: what has changed, for a log or where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ...runs.events import ErrorEvent, Event, LogEvent, TaskEvent
from ...runs.folder import ENDED
from ...runs.state import RunState, TaskState
from .table import heading, left, note


def lines_of(event: Event, before: RunState) -> Iterator[str]:
    """What an event of a run on this machine has to say.

    :param before: the run without it.
    """
    if isinstance(event, TaskEvent):
        status, known = event.data, before.task(event.task)
        if known is None or (known.state, known.attempts) == (status.status, status.attempts):
            return
        if status.status == "running":
            yield f"{event.task}: started" + (f" (attempt {status.attempts})" if status.attempts > 1 else "")
        elif status.status in ENDED and (status.attempts or status.status in ("cached", "failed")):
            seconds = f" after {status.seconds:.1f} s" if status.attempts else ""
            yield f"{event.task}: {status.status}{seconds}" + (f": {status.error}" if status.error else "")
    elif isinstance(event, LogEvent) and event.data.source == "runner":
        yield from (f"{event.task}: {line}" if event.task else line for line in event.data.lines)
    elif isinstance(event, ErrorEvent) and before.task(event.task) is None:  # a task's is in its status, too
        failure = event.data
        yield f"{event.task}: failed: {failure.what}" if event.task else f"{failure.what}: {failure.why}"


def changes(state: RunState, before: RunState | None, now: float | None = None) -> Iterator[str]:
    """What has changed in a run that is looked at now and then."""
    now = time.time() if now is None else now
    known = {task.name: task for task in before.tasks} if before else {}
    if before is None or before.state != state.state:
        yield heading(state, now)
    for task in state.tasks:
        if task.state == "pending" and not task.why:
            continue
        was = known.get(task.name)
        if was is None or _key(task) != _key(was):
            again = f", attempt {task.attempts}" if task.attempts > 1 else ""
            yield f"{task.title}: {task.state}{again}" + (f": {task.why}" if task.why else "")
        elif task.state == "running" and task.progress and _stage(task) != _stage(was):
            still = left([task], now)
            yield f"{task.title}: {note([task])}" + (f", {still} left" if still else "")
    for text in state.notes:
        if before is None or text not in before.notes:
            yield f"note: {text}"


def _key(task: TaskState) -> tuple[str, str, int]:
    return task.state, task.why, max(1, task.attempts)


def _stage(task: TaskState) -> tuple[object, int]:
    """Where a running task is, in tenths of its stage: a line for each is enough."""
    return task.progress.get("stage"), int(10 * task.share)
