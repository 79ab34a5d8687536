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

from components.shared.runtime.errors import ForgeError, Interrupted, PhaseFailed, StoreError

from ..runs.state import RunState
from .http import NotFound, NotLoggedIn, ServerLost
from .state.run import Watcher

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


def wait(
    watcher: Watcher, show: Callable[[RunState], None], say: Callable[[str], None], *, timeout: float
) -> RunState:
    """Look at a run until it ends.

    :param show: called with the run each time.
    :param say: one line for the person who watches, about the looking itself.
    :param timeout: seconds to stay at most.
    :raises ForgeError: StillRunning at the timeout; StoreError where the server is lost by then, or refuses us.
    """
    try:
        return _until_end(watcher, show, say, timeout)
    except KeyboardInterrupt as error:
        raise StoppedLooking(
            "stopped looking; the run goes on",
            where=watcher.server.url(watcher.run),
            fix=f"look again: {_again(watcher)}; stop it: forge cancel {watcher.run}",
        ) from error


def ending(watcher: Watcher, run: RunState) -> ForgeError | None:
    """The error that an ended run stands for; None for success."""
    if run.state in ("succeeded", "skipped"):
        return None
    if run.state == "cancelled":
        return Interrupted(
            "the run was cancelled", where=run.url, fix=f"forge retry {run.id} goes on where it stopped"
        )
    task = run.failed()
    if task is None:
        why = run.error or "KFP does not say which task it was"
        fix = f"forge logs {run.id}, or its page, may know more"
        return PhaseFailed("the run has failed", where=run.url, why=why, fix=fix)
    log_lines = last_lines(watcher, task.title, LAST_LINES)
    why = task.why or run.error or "its log says why"
    text = "".join(f"\n    {line}" for line in log_lines)
    return PhaseFailed(
        f"the run has failed in {task.title}",
        where=run.url,
        why=why + (f"; its last lines:{text}\n" if text else ""),
        fix=f"forge logs {run.id} --task {task.title} shows all of it; forge retry {run.id} starts there again",
    )


def last_lines(watcher: Watcher, task: str, count: int) -> list[str]:
    """The last lines that a task wrote, from its pod or from the store; none where neither has them."""
    from .state.logs import log_of

    try:
        return list(log_of(watcher, task, count))
    except ForgeError:  # the run's own failure is what is to be said; that its log is gone is in `forge logs`
        return []


def _until_end(
    watcher: Watcher, show: Callable[[RunState], None], say: Callable[[str], None], timeout: float
) -> RunState:
    end = time.monotonic() + timeout
    again = f"look again: {_again(watcher)}"
    lost: ForgeError | None = None
    pause, seen, unknown = PAUSE_SECONDS, False, 0
    while True:
        try:
            run = watcher.look()
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
            show(run)
            if run.ended:
                return run
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
