"""The report of performance: how long the phases take, what the models are worth, and what to do about it.

A phase's execution is what its tasks add up to in one run. Its baseline is the mean of its first ten; it has degraded where
there are more than ten and the mean of the last ten is over 1.5 times that. Profiles are told apart: a small run is no
baseline for a full one.

Nothing here reads: the executions come from the folders of runs (history.py), or from the control plane's index of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import BaseModel, computed_field

from components.shared.runtime import machine

WINDOW = 10
"""Executions that are the baseline, and that are compared with it."""

DEGRADED = 1.5
GIB = 2**30
FULL = 0.8
"""Of the machine's memory: from there on a task may be killed."""
MOST_MODELS = 10
ENOUGH = 5
"""Executions from which on a share of failures says something."""


class Spent(Protocol):
    """What an execution took."""

    @property
    def seconds(self) -> float:
        """Of the clock, its tasks added up."""

    @property
    def cpu_seconds(self) -> float:
        """Of the processors."""

    @property
    def memory_bytes(self) -> int:
        """The largest of its tasks."""


class Pace(BaseModel):
    """How long a phase takes in runs of one profile.

    :param baseline_time: the mean of its first ten executions, in seconds; `recent_time` is that of its last ten.
    :param success_rate: of its executions; `failures` counts attempts of tasks.
    :param memory_bytes: the most that one of its last ten needed.
    """

    phase: str
    profile: str
    executions: int
    success_rate: float
    failures: int
    mean_time: float
    baseline_time: float
    recent_time: float
    degraded: bool
    memory_bytes: int
    cores: float
    last: float


class PhasePerformance(BaseModel):
    """How a phase does, over all profiles; `paces` tells them apart."""

    executions: int
    success_rate: float
    degraded: bool
    paces: list[Pace]


class Report(BaseModel):
    """The report.

    :param phase_performance: by phase.
    :param model_performance: the best models, and the mean and best score of each phase's.
    :param resource_utilization: memory, cores and hours by phase, and the runs by state.
    :param quality_metrics: mean score by suite of the newest models of each phase.
    :param recommendations: what to do, in words; empty where there is nothing.
    """

    phase_performance: dict[str, PhasePerformance]
    model_performance: dict[str, Any]
    resource_utilization: dict[str, Any]
    quality_metrics: dict[str, dict[str, float]]
    recommendations: list[str]

    def summary(self) -> str:
        """The report in one line."""
        slower = [phase for phase, each in sorted(self.phase_performance.items()) if each.degraded]
        executions = sum(each.executions for each in self.phase_performance.values())
        return (
            f"{sum(self.resource_utilization['runs'].values())} runs, {executions} executions of phases; "
            f"degraded: {', '.join(slower) or 'none'}; {len(self.recommendations)} recommendations"
        )

    @computed_field(alias="summary")  # type: ignore[prop-decorator] # mypy knows none above a property
    @property
    def in_a_line(self) -> str:
        """The summary, among the fields of the JSON."""
        return self.summary()


def degraded(executions: int, baseline: float, recent: float) -> bool:
    """Whether there were more than ten executions, and the last ten took over 1.5 times the baseline in the mean."""
    return executions > WINDOW and baseline > 0 and recent > DEGRADED * baseline


def pace(
    phase: str,
    profile: str,
    *,
    executions: int,
    succeeded: int,
    failures: int,
    mean_time: float,
    last: float,
    first: Sequence[Spent],
    newest: Sequence[Spent],
) -> Pace:
    """What a phase's executions in one profile come to.

    :param last: when the last one ended, in Unix seconds.
    :param first: at most WINDOW of them; so are `newest`.
    """
    baseline, recent = mean([each.seconds for each in first]), mean([each.seconds for each in newest])
    seconds = sum(each.seconds for each in newest)
    return Pace(
        phase=phase,
        profile=profile,
        executions=executions,
        success_rate=succeeded / executions,
        failures=failures,
        mean_time=mean_time,
        baseline_time=baseline,
        recent_time=recent,
        degraded=degraded(executions, baseline, recent),
        memory_bytes=max(each.memory_bytes for each in newest),
        cores=sum(each.cpu_seconds for each in newest) / seconds if seconds else 0.0,
        last=last,
    )


def report(
    paces: Sequence[Pace],
    *,
    states: Mapping[str, int],
    spent: Mapping[str, Mapping[str, float]],
    models: dict[str, Any],
    quality: dict[str, dict[str, float]],
) -> Report:
    """The report of what was read.

    :param states: of the runs: how many are in which.
    :param spent: by phase, `hours`, `core_hours` and whatever else is known of its resources.
    :param models: `best`, and by phase `models`, `mean_score`, `best_score`, `mean_bytes` under `phases`, and `gained`: by
        how much its models' scores are above those of what they were made from, in the mean; None where that has none.
    """
    phases: dict[str, PhasePerformance] = {}
    for phase in dict.fromkeys(each.phase for each in paces):
        own = [each for each in paces if each.phase == phase]
        executions = sum(each.executions for each in own)
        phases[phase] = PhasePerformance(
            executions=executions,
            success_rate=sum(each.success_rate * each.executions for each in own) / executions,
            degraded=any(each.degraded for each in own),
            paces=own,
        )
    memory = machine.memory()
    resources = {
        "phases": {phase: _resources(phase, paces, said) for phase, said in spent.items()},
        "runs": dict(states),
        "machine": {"cores": machine.cores(), "memory_bytes": memory.limit, "free_memory_bytes": memory.free},
    }
    return Report(
        phase_performance=phases,
        model_performance=models,
        resource_utilization=resources,
        quality_metrics=quality,
        recommendations=_advice(paces, memory.limit, models["phases"]),
    )


def _resources(phase: str, paces: Sequence[Pace], said: Mapping[str, float]) -> dict[str, float]:
    own = [each for each in paces if each.phase == phase]
    most = {
        "peak_memory_bytes": max(each.memory_bytes for each in own),
        "cores": max(each.cores for each in own),
    }
    return {**said, **most}


def _advice(paces: Sequence[Pace], memory: int, models: Mapping[str, Mapping[str, float]]) -> list[str]:
    advice = []
    for each in paces:
        name = f"{each.phase} ({each.profile or 'no profile'})"
        if each.degraded:
            advice.append(
                f"{name} takes {each.recent_time / each.baseline_time:.1f} times as long as it did at first "
                f"({each.recent_time:.0f} s against {each.baseline_time:.0f} s; the alert is at {DEGRADED}): look what "
                "has changed in its settings, its data or its machine"
            )
        if each.executions >= ENOUGH and each.success_rate < 0.9:
            advice.append(
                f"{name} fails in {1 - each.success_rate:.0%} of its runs: read the errors of the last ones"
            )
        if memory and each.memory_bytes > FULL * memory:
            advice.append(
                f"{name} needs {each.memory_bytes / GIB:.1f} GiB of {memory / GIB:.1f}: fewer tasks at once, or more memory"
            )
    if {"bitnet", "compression"} <= set(models):
        lost = models["bitnet"]["mean_score"] - models["compression"]["mean_score"]
        if lost > 0.05:
            advice.append(
                f"compression costs {lost:.2f} of the mean score: ask for more bytes or a higher retention"
            )
    return advice


def mean(values: Sequence[float]) -> float:
    """Their mean; 0 of none."""
    return sum(values) / len(values) if values else 0.0


def suite_means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each suite over the models that were asked it."""
    suites = sorted({suite for each in scores for suite in each})
    return {suite: mean([each[suite] for each in scores if suite in each]) for suite in suites}
