"""`forge status`: how far a run is, wherever it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import AnyRun, AsJson, Authority, Cookies, Host, Namespace, Runs, Token, console, say
from .choice import local_run, watcher_of

if TYPE_CHECKING:
    from ...runs.folder import RunFolder
    from ...runs.state import RunState

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Stay until the run has ended.")]


def status(
    run: AnyRun = "latest",
    runs: Runs = Path("runs"),
    follow: Follow = False,
    as_json: AsJson = False,
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
    if folder := local_run(run, runs, host):
        from ...runs.state import read_state

        if follow:
            _follow(folder, timeout, quiet=as_json)
        _show(read_state(folder), as_json=as_json)
        return
    from ...kubeflow import follow as following
    from ..rendering.live import LiveView

    watcher = watcher_of(run, host, namespace, token, cookies, authority)
    if not follow:
        _show(watcher.look(), as_json=as_json, page=True)
        return
    with LiveView(console) as screen:
        state = following.wait(watcher, screen.show, screen.say, timeout=timeout)
    _show(state, as_json=as_json)
    if error := following.ending(watcher, state):
        raise error


def _show(state: RunState, *, as_json: bool, page: bool = False) -> None:
    if as_json:
        say(json.dumps(state.to_json(), indent=1))
        return
    from ..rendering.table import table

    console.print(table(state))
    if page:
        say(state.url)


def _follow(folder: RunFolder, timeout: float, *, quiet: bool) -> None:
    """Stay with a run of this machine: its events are read as they come."""
    import time

    from ...runs.log import follow
    from ..rendering.live import LiveRun

    end = time.monotonic() + timeout
    events = follow(folder, until=lambda: time.monotonic() > end)
    if quiet:
        for _ in events:
            pass
        return
    with LiveRun(console) as screen:
        for event in events:
            screen(event)
