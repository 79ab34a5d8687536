"""`forge status`, `logs`, `cancel` and `retry`: a run, wherever it runs.

With --host, KFP_HOST or the address of a run's page it is one of Kubeflow; a run of this machine that has the name
that was given comes first, so that both can be looked at in one shell.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.shared.runtime.errors import InputError

from ..options import (
    AnyRun,
    Authority,
    Cookies,
    Host,
    KubeflowRun,
    Namespace,
    Runs,
    Token,
    access,
    console,
    say,
)

if TYPE_CHECKING:
    from ...kubeflow.state.run import RunView, Watcher
    from ...runs.folder import RunFolder

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Stay until the run has ended.")]


def status(
    run: AnyRun = "latest",
    runs: Runs = Path("runs"),
    follow: Follow = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the table.")] = False,
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
    timeout: Annotated[float, typer.Option(help="Seconds that --follow stays at most.")] = 604800.0,
) -> None:
    """Show how far a run is: its phases, their progress, the time that they still need, what they wait for.

    \b
    forge status --follow
    forge status latest --host http://localhost:8080
    forge status http://localhost:8080/#/runs/details/ID --json

    With --follow the exit code is that of `forge submit --wait`, for a run of Kubeflow.
    """
    if folder := _local(run, runs, host):
        _show_local(folder, follow=follow, as_json=as_json)
        return
    from ...kubeflow import follow as following
    from ...kubeflow.view import strip

    watcher = _watcher(run, host, namespace, token, cookies, authority)
    if not follow:
        view = watcher.look()
        if as_json:
            say(json.dumps(view.to_json(), indent=1))
        else:
            console.print(strip(view))
            say(view.url)
        return
    view = following.wait(watcher, console, timeout=timeout)
    if as_json:
        say(json.dumps(view.to_json(), indent=1))
    else:
        console.print(strip(view))
    if error := following.ending(watcher, view):
        raise error


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
    if folder := _local(run, runs, host):
        for line in _local_lines(folder, task, lines, follow=follow):
            print(line)
        return
    from ...kubeflow.state.logs import log_of

    watcher = _watcher(run, host, namespace, token, cookies, authority)
    chosen = _chosen(watcher.look(), task)
    for line in log_of(watcher, chosen, lines or None, follow=follow):
        print(line, flush=follow)


def cancel(
    run: KubeflowRun,
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
) -> None:
    """Stop a run of Kubeflow. (One of this machine stops by Ctrl-C, or SIGTERM to its process.)

    \b
    forge cancel latest --host http://localhost:8080

    Where MLFLOW_TRACKING_URI is set, the run is ended there too.
    """
    from ...local import mlflow_run

    watcher = _watcher(run, host, namespace, token, cookies, authority)
    view = watcher.look()
    if view.ended:
        raise InputError(
            f"the run has ended already: {view.state}",
            where=view.url,
            fix=f"forge retry {view.id} starts it again",
        )
    watcher.server.terminate(watcher.run)
    say(f"{view.name} is being stopped: {view.url}")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        # No pod of the run is told that it ends; those that Kubeflow's own plugin made are the plugin's to end.
        mlflow_run.wait(mlflow_run.start_closing(uri, view.id, "interrupted", {}), say)


def retry(
    run: KubeflowRun,
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
) -> None:
    """Start a failed run of Kubeflow again at the task that failed; it goes on from its checkpoint.

    \b
    forge retry latest --host http://localhost:8080

    (One of this machine goes on by `forge run-pipeline --resume RUN`.)
    """
    watcher = _watcher(run, host, namespace, token, cookies, authority)
    view = watcher.look()
    if view.state not in ("failed", "cancelled"):
        raise InputError(
            f"only a run that has failed is started again; this one: {view.state}",
            where=view.url,
            fix="start a new one: forge submit; what did not change comes from KFP's cache",
        )
    watcher.server.retry(watcher.run)
    at = f" at {task.title}" if (task := view.failed()) else ""
    say(f"{view.name} goes on{at}: {view.url}")


def _local(run: str, runs: Path, host: str) -> RunFolder | None:
    """The run on this machine that is meant; None for one of Kubeflow."""
    from ...runs.folder import find

    if "#/runs/details/" in run:
        return None
    if host and (run == "latest" or not any((at / "run.json").is_file() for at in (runs / run, Path(run)))):
        return None
    return find(runs, run)


def _watcher(run: str, host: str, *how: str) -> Watcher:
    """What looks at a run of Kubeflow."""
    from ...kubeflow.server import RUN_PAGE, Server
    from ...kubeflow.state.run import Watcher

    page = RUN_PAGE.match(run)
    server = Server(access(page[1] if page else host, *how))
    return Watcher.of(server, server.find(run))


def _chosen(view: RunView, task: str) -> str:
    """The title of the task whose log is wanted."""
    if task:
        if found := view.task(task):
            return found.title
        known = ", ".join(one.title for one in view.tasks)
        raise InputError(f"the run has no task {task!r}", where=view.url, fix=f"its tasks are {known}")
    if failed := view.failed():
        return failed.title
    for states in (("running",), ("succeeded",)):
        found_ones = [one for one in view.tasks if one.state in states]
        if found_ones:
            return max(found_ones, key=lambda one: one.started or 0.0).title
    raise InputError(
        "no task of the run has begun", where=view.url, fix="forge status says what it waits for"
    )


def _show_local(folder: RunFolder, *, follow: bool, as_json: bool) -> None:
    from rich.live import Live

    from .. import view

    active = folder.active()
    if follow and active and not as_json:
        with Live(console=console, auto_refresh=False) as live:
            while active:
                active = folder.active()
                live.update(view.table(folder, active=active), refresh=True)
                time.sleep(1)
        return
    while follow and active:
        time.sleep(1)
        active = folder.active()
    if as_json:
        say(json.dumps(_local_json(folder, active=active), indent=1))
    else:
        console.print(view.table(folder, active=active))


def _local_json(folder: RunFolder, *, active: bool) -> dict[str, Any]:
    """The same keys as for a run of Kubeflow, as far as this machine knows them."""
    info = folder.info()
    state = info["status"] if active or info["status"] != "running" else "interrupted"
    tasks = [
        {
            "name": one.task, "title": one.task, "phase": one.phase, "state": one.status, "attempts": one.attempts,
            "started": one.started, "finished": one.finished, "why": one.error,
            "progress": folder.task(one.task).last_progress() or {}, "pod": "",
        }
        for one in folder.tasks()
    ]  # fmt: skip
    return {
        "id": folder.name, "name": folder.name, "state": state, "url": str(folder.path), "root": str(folder.path),
        "started": info["started"], "finished": info.get("finished"), "tasks": tasks, "notes": [], "error": "",
    }  # fmt: skip


def _local_lines(folder: RunFolder, task: str, lines: int, *, follow: bool) -> Iterator[str]:
    statuses = list(folder.tasks())
    by_name = {one.task: one for one in statuses}
    order = {"failed": 0, "running": 1}
    chosen = (
        by_name.get(task)
        if task
        else min(statuses, key=lambda one: (order.get(one.status, 2), -(one.started or 0)), default=None)
    )
    path = folder.task(chosen.task).log if chosen else None
    if chosen is None or path is None or not path.is_file():
        raise InputError(
            f"the run has no log of {task!r}" if task else "no task of the run has begun",
            where=str(folder.path),
            fix=f"its tasks are {', '.join(by_name)}",
        )
    with path.open(errors="replace") as file:
        text = file.read().splitlines()
        yield from text[-lines:] if lines else text
        while follow and folder.active():
            yield from file.read().splitlines()
            time.sleep(1)
