"""A run while it goes on: a table that moves on a terminal, lines elsewhere."""

from __future__ import annotations

import threading
import time

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from ...runs.events import Event, RunEvent, TaskEvent
from ...runs.state import RunState
from .lines import changes, lines_of
from .table import table


def say(console: Console, text: str) -> None:
    """A line as it is, with the time: paths and prompts are no markup, and are not wrapped."""
    console.print(Text.assemble((f"{time.strftime('%H:%M:%S')} ", "dim"), text), soft_wrap=True)


class LiveRun:
    """A listener of a run's events that draws what they add up to.

    >>> with LiveRun(console) as screen:
    ...     await execute(plan, screen)

    :param console: with a terminal it shows the table; lines appear above it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.state = RunState()
        self._lock = threading.Lock()
        self._live = (
            Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> LiveRun:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in the next event."""
        with self._lock:
            lines = list(lines_of(event, self.state))
            self.state.apply(event)
        for line in lines:
            self.say(line)
        if self._live is not None and isinstance(event, RunEvent | TaskEvent):
            self._live.refresh()

    def say(self, text: str) -> None:
        """A line above the table."""
        say(self.console, text)

    def _table(self) -> RenderableType:
        with self._lock:
            return table(self.state)


class LiveView:
    """Shows a run that is looked at now and then, such as one of Kubeflow."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._before: RunState | None = None
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, state: RunState) -> None:
        """Show the run as it is now."""
        if self._live is not None:
            self._live.update(table(state), refresh=True)
            return
        for line in changes(state, self._before):
            say(self.console, line)
        self._before = state

    def say(self, text: str) -> None:
        """Something about the looking itself."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
