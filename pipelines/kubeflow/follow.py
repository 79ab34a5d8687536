"""Stays with a Kubeflow run until it ends, whatever the network does on the way, and says how it ended.

What ends a command, and with which exit code:

==== =====================================================================================
0    the run has succeeded
9    the run has failed: the task, its last lines and its page are named
75   the run was cancelled
124  the run still goes on after --timeout
130  Ctrl-C: only the looking has ended, the run goes on
5    the server did not answer at --timeout, or does not know us any more: the run goes on
==== =====================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from rich.console import Console
from rich.live import Live

from components.shared.runtime.errors import ForgeError, Interrupted, PhaseFailed, StoreError

from . import view as kubeflow_view
from .http import NotFound, NotLoggedIn, ServerLost
from .state.run import RunView, Watcher

PAUSE_SECONDS, LONGEST_PAUSE = 5.0, 60.0
LAST_LINES = 15
MISSES = 10
"""So many answers in a row that there is no such run are not believed of a run that was there: some eight minutes."""


class StillRunning(ForgeError):
    """The time to wait is over, and the run is not."""

    exit_code: ClassVar[int] = 124


class StoppedLooking(ForgeError):
    """Ctrl-C while waiting."""

    exit_code: ClassVar[int] = 130


def wait(watcher: Watcher, console: Console, *, timeout: float) -> RunView:
    """Show a run until it ends.

    :param timeout: seconds to stay at most.
    :raises ForgeError: StillRunning at the timeout; StoreError where the server is lost by then, or refuses us.
    """
    try:
        return _shown(watcher, console, timeout)
    except KeyboardInterrupt as error:
        raise StoppedLooking(
            "stopped looking; the run goes on",
            where=watcher.server.url(watcher.run),
            fix=f"look again: {_again(watcher)}; stop it: forge cancel {watcher.run}",
        ) from error


def _shown(watcher: Watcher, console: Console, timeout: float) -> RunView:
    if not console.is_terminal:
        shown: list[RunView] = []

        def print_lines(view: RunView) -> None:
            for line in kubeflow_view.lines(view, shown[-1] if shown else None):
                _say(console, f"{time.strftime('%H:%M:%S')} {line}")
            shown[:] = [view]

        return _until_end(watcher, print_lines, lambda text: _say(console, text), timeout)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        return _until_end(
            watcher,
            lambda view: live.update(kubeflow_view.strip(view), refresh=True),
            lambda text: _say(live.console, text),
            timeout,
        )


def ending(watcher: Watcher, view: RunView) -> ForgeError | None:
    """The error that an ended run stands for; None for success."""
    if view.state in ("succeeded", "skipped"):
        return None
    if view.state == "cancelled":
        return Interrupted(
            "the run was cancelled", where=view.url, fix=f"forge retry {view.id} goes on where it stopped"
        )
    task = view.failed()
    if task is None:
        why = view.error or "KFP does not say which task it was"
        fix = f"forge logs {view.id}, or its page, may know more"
        return PhaseFailed("the run has failed", where=view.url, why=why, fix=fix)
    said = last_lines(watcher, task.title, LAST_LINES)
    why = task.why or view.error or "its log says why"
    text = "".join(f"\n    {line}" for line in said)
    return PhaseFailed(
        f"the run has failed in {task.title}",
        where=view.url,
        why=why + (f"; its last lines:{text}\n" if text else ""),
        fix=f"forge logs {view.id} --task {task.title} shows all of it; forge retry {view.id} starts there again",
    )


def last_lines(watcher: Watcher, task: str, count: int) -> list[str]:
    """The last lines that a task wrote, from its pod or from the store; none where neither has them."""
    from .state.logs import log_of

    try:
        return list(log_of(watcher, task, count))
    except ForgeError:  # the run's own failure is what is to be said; that its log is gone is in `forge logs`
        return []


def _until_end(
    watcher: Watcher, show: Callable[[RunView], None], say: Callable[[str], None], timeout: float
) -> RunView:
    end = time.monotonic() + timeout
    again = f"look again: {_again(watcher)}"
    lost: ForgeError | None = None
    pause, seen, unknown = PAUSE_SECONDS, False, 0
    while True:
        try:
            view = watcher.look()
        except (ServerLost, NotFound) as error:
            # There is no such run; or, once it was seen, a gateway says so while its server is being replaced.
            unknown = unknown + 1 if isinstance(error, NotFound) else 0
            if unknown > (MISSES if seen else 0):
                raise
            if lost is None:
                say(f"{error.what} ({error.why}); the run goes on, asking again until --timeout")
            else:
                pause = min(LONGEST_PAUSE, 2 * pause)
            lost = error
        except NotLoggedIn as error:
            raise NotLoggedIn(
                "the server does not know us any more; the run goes on",
                where=error.where,
                why=error.why,
                fix=f"log in anew (--token, --cookies), then {again}",
            ) from error
        else:
            if lost is not None:
                say("the server answers again")
            pause, lost, seen, unknown = PAUSE_SECONDS, None, True, 0
            show(view)
            if view.ended:
                return view
        left = end - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
    if lost is not None:
        raise StoreError(
            f"the server did not answer until the timeout of {timeout:g} s; the run goes on",
            where=watcher.server.url(watcher.run),
            why=lost.why,
            fix=again,
        )
    raise StillRunning(
        f"the run did not end in {timeout:g} s; it goes on", where=watcher.server.url(watcher.run), fix=again
    )


def _again(watcher: Watcher) -> str:
    return f"forge status {watcher.run} --follow --host {watcher.server.host}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
