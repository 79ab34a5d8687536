"""What a task knows of its run: where in the pipeline it stands, how the run is to be done, why inputs are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ..phases import PHASES


class UpstreamUnavailable(Exception):
    """A task has no outputs: it failed, it is outside the range asked for, or the run was stopped.

    :param task: the one without outputs.
    """

    def __init__(self, task: str, why: Literal["failed", "left out", "stopped"]) -> None:
        super().__init__(f"{task}: {why}")
        self.task = task
        self.why = why


@dataclass(frozen=True)
class Position:
    """Where in the pipeline a task stands: its path, and the number of the innermost loop's turn that it is in."""

    path: tuple[str, ...] = ()
    iteration: int | None = None

    @property
    def id(self) -> str:
        """The task's name in the run."""
        return "/".join(self.path)

    def below(self, name: str) -> Position:
        """The position of the task `name` in the nested pipeline that stands here."""
        return replace(self, path=(*self.path, name))

    def turn(self, number: int) -> Position:
        """The position of one turn of the loop that stands here."""
        return Position((*self.path, str(number)), number)


@dataclass(frozen=True)
class RunOptions:
    """How a run is to be done.

    :param slots: processes at the same time.
    :param resume: tasks that are done in the folder stay done.
    :param first: with `resume`: from this phase on, tasks run again.
    :param last: phases after this one are left for later.
    :param cache: look for results of earlier runs.
    :param environment: for every process, beside the runner's own.
    :param inherit: file descriptors that every process keeps open.
    :param grace: seconds that a phase has for its checkpoint when the run is stopped; a pod has 30 by default.
    """

    slots: int = 2
    resume: bool = False
    first: str = PHASES[0]
    last: str = PHASES[-1]
    cache: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    inherit: tuple[int, ...] = ()
    grace: float = 30.0

    def left_out(self, phase: str) -> bool:
        """Whether tasks of this phase are for later."""
        return bool(phase) and PHASES.index(phase) > PHASES.index(self.last)

    def again(self, phase: str) -> bool:
        """Whether tasks of this phase run again although they are done."""
        return bool(phase) and PHASES.index(phase) >= PHASES.index(self.first) > 0

    def given(self, phase: str) -> bool:
        """Whether tasks of this phase must be done already, as it comes before the first."""
        return bool(phase) and PHASES.index(phase) < PHASES.index(self.first)
