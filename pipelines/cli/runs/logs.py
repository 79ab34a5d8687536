"""`forge logs`: what a task of a run has written, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.shared.runtime.errors import InputError

from ..options import AnyRun, Authority, Cookies, Host, Namespace, Runs, Token
from .choice import local_run, watcher_of

if TYPE_CHECKING:
    from ...runs.folder import RunFolder
    from ...runs.state import RunState, TaskState


def logs(
    run: AnyRun = "latest",
    task: Annotated[
        str,
        typer.Option(
            "--task", "-t", help="The task (default: the one that failed, else that runs, else the last)."
        ),
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="Only so many of the last lines (0: all).")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the task has ended.")] = False,
    runs: Runs = Path("runs"),
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
) -> None:
    """Show what a task of a run has written.

    \b
    forge logs latest --task bitnet -n 50
    forge logs latest --host http://localhost:8080 --follow

    Of a Kubeflow run the pod says it; where it is gone, KFP's archive or the object store does.
    """
    if folder := local_run(run, runs, host):
        for line in _lines(folder, task, lines, follow=follow):
            print(line, flush=follow)
        return
    from ...kubeflow.state.logs import log_of

    watcher = watcher_of(run, host, namespace, token, cookies, authority)
    chosen = _chosen(watcher.look(), task)
    for line in log_of(watcher, chosen.title, lines or None, follow=follow):
        print(line, flush=follow)


def _chosen(state: RunState, task: str) -> TaskState:
    """The task whose log is wanted: the one that is named, else the most telling one."""
    if task:
        if chosen := state.task(task):
            return chosen
        known = ", ".join(other.title for other in state.tasks)
        raise InputError(f"the run has no task {task!r}", where=state.url, fix=f"its tasks are {known}")
    if failed := state.failed():
        return failed
    for states in (("running",), ("succeeded", "interrupted", "cancelled")):
        begun = [
            candidate
            for candidate in state.tasks
            if candidate.state in states and (candidate.started or candidate.state == "running")
        ]
        if begun:
            return max(begun, key=lambda candidate: candidate.started or 0.0)
    raise InputError(
        "no task of the run has begun", where=state.url, fix="forge status says what it waits for"
    )


def _lines(folder: RunFolder, task: str, lines: int, *, follow: bool) -> Iterator[str]:
    """The log of a task on this machine, to its end; with `follow` until the run has ended."""
    from ...runs.state import read_state

    state = read_state(folder)
    chosen = _chosen(state, task)
    path = folder.task(chosen.name).log
    if not path.is_file():
        known = ", ".join(other.name for other in state.tasks)
        raise InputError(
            f"the run has no log of {chosen.name!r}", where=state.url, fix=f"its tasks are {known}"
        )
    with path.open(errors="replace") as file:
        text = file.read().splitlines()
        yield from text[-lines:] if lines else text
        while follow and folder.active():
            yield from file.read().splitlines()
            time.sleep(1)
        yield from file.read().splitlines()
