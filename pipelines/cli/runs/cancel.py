"""`forge cancel`: stops a run, wherever it runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.runtime.errors import InputError

from ..options import AnyRun, Authority, Cookies, Host, Namespace, Runs, Token, say
from .choice import local_run, watcher_of

if TYPE_CHECKING:
    from ...runs.folder import RunFolder


def cancel(
    run: AnyRun,
    runs: Runs = Path("runs"),
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
) -> None:
    """Stop a run: of this machine, as Ctrl-C does, or of Kubeflow.

    \b
    forge cancel latest
    forge cancel latest --host http://localhost:8080

    A run of this machine lets its phases write their checkpoints; a second time kills them. Where MLFLOW_TRACKING_URI is
    set, a run of Kubeflow is ended there too.
    """
    if folder := _here(run, runs, host):
        _stop(folder)
        return
    from ...runs import mlflow_run

    watcher = watcher_of(run, host, namespace, token, cookies, authority)
    state = watcher.look()
    if state.ended:
        raise InputError(
            f"the run has ended already: {state.state}",
            where=state.url,
            fix=f"forge retry {state.id} starts it again",
        )
    watcher.server.terminate(watcher.run)
    say(f"{state.name} is being stopped: {state.url}")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        # No pod of the run is told that it ends; those that Kubeflow's own plugin made are the plugin's to end.
        mlflow_run.wait(mlflow_run.start_closing(uri, state.id, "interrupted", {}), say)


def _here(run: str, runs: Path, host: str) -> RunFolder | None:
    """The run of this machine, None for one of Kubeflow: that is what is meant where there is none here."""
    try:
        return local_run(run, runs, host)
    except InputError:
        if run == "latest":
            raise
        return None


def _stop(folder: RunFolder) -> None:
    """Ask the process that runs it to stop."""
    if not folder.active():
        raise InputError(
            f"nobody is at this run: {folder.read().status}",
            where=str(folder.path),
            fix=f"go on with it: forge run-pipeline --resume {folder.name}",
        )
    process = folder.runner()
    if not process:
        raise InputError(
            "the process that runs it cannot be asked to stop",
            where=str(folder.path),
            why="it has been killed and its phases are ending, or it is on another machine, or somebody else's",
            fix="wait a little, or stop it there",
        )
    os.kill(process, signal.SIGTERM)
    say(f"{folder.name} is being stopped: forge status {folder.name} --follow")
