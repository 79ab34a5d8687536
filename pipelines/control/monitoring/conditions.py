"""The alerts that need no Prometheus: the same conditions as in rules.yaml, on one look instead of a stretch of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel

from .history import RECENTLY
from .live import Running
from .snapshot import Snapshot

MEMORY_USAGE = 0.8
DISK_USAGE = 0.9
SILENCE_SECONDS = 900.0
RETRIES = 5
QUEUE_SECONDS = 1800.0
LEASE_AGE_SECONDS = 30.0
RUNBOOKS = "docs/control/runbooks.md"

Severity = Literal["info", "warning", "critical"]


class Alert(BaseModel):
    """Something that wants to be looked at.

    :param since: Unix seconds; of our own, when it was looked at.
    :param labels: what it is about: a phase, a run, what does not answer.
    :param source: `here` for what this process has seen, `alertmanager` for what was posted.
    """

    name: str
    severity: Severity
    state: Literal["firing", "resolved"] = "firing"
    since: float
    summary: str
    labels: dict[str, str] = {}
    runbook: str
    source: Literal["here", "alertmanager"] = "here"


def evaluate(snapshot: Snapshot, time: float) -> list[Alert]:
    """What is wrong now.

    :param time: Unix seconds.
    """
    return [
        Alert(
            name=name,
            severity=severity,
            since=time,
            summary=summary,
            labels=dict(labels),
            runbook=runbook(name),
        )
        for name, severity, summary, labels in _found(snapshot)
    ]


def runbook(name: str) -> str:
    """Where it is written what to do."""
    return f"{RUNBOOKS}#{name}"


Found = tuple[str, Severity, str, Mapping[str, str]]


def _found(snapshot: Snapshot) -> Iterator[Found]:
    machine = snapshot.machine
    if machine.memory_usage > MEMORY_USAGE:
        said = f"{machine.memory_usage:.0%} of this machine's memory is in use"
        yield "high_memory_usage", "warning", said, {"action": "scale_resources"}
    if machine.disk_usage > DISK_USAGE:
        yield "disk_full", "critical", f"{machine.disk_usage:.0%} of the runs' disk is in use", {}
    for dependency, up in snapshot.up.items():
        if not up:
            yield (
                f"{dependency}_down",
                "critical",
                f"{dependency} does not answer",
                {"dependency": dependency},
            )
    for pace in snapshot.paces:
        if pace.degraded:
            said = f"{pace.phase} takes {pace.recent_time / pace.baseline_time:.1f} times as long as it did"
            yield "phase_degraded", "warning", said, {"phase": pace.phase, "profile": pace.profile}
    for phase, past in snapshot.past.items():
        if past.recent_errors:
            said = f"{phase} has failed {past.recent_errors} times in {RECENTLY / 60:.0f} minutes"
            yield "phase_failed", "warning", said, {"phase": phase}
        if past.recent_gates:
            yield "gate_failed", "warning", f"a gate of {phase} does not hold", {"phase": phase}
        if past.recent_retries > RETRIES:
            yield "retry_storm", "warning", f"{phase} is tried again and again", {"phase": phase}
    if snapshot.running is not None:
        yield from _running(snapshot.running)


def _running(running: Running) -> Iterator[Found]:
    if running.lost:
        yield "run_lost", "critical", f"{running.lost} runs were lost in the last day", {}
    if running.waits > QUEUE_SECONDS and not running.states.get("running"):
        said = f"{running.waiting} runs wait, for up to {running.waits / 60:.0f} minutes, and none goes on"
        yield "queue_stuck", "critical", said, {}
    for run in running.runs:
        if run.silence is not None and run.silence > SILENCE_SECONDS:
            said = f"{run.id} has said nothing for {run.silence / 60:.0f} minutes"
            yield "stuck_progress", "warning", said, {"run": run.id}
        if run.lease_age is not None and run.lease_age > LEASE_AGE_SECONDS:
            said = f"nobody has been at {run.id} for {run.lease_age:.0f} s"
            yield "lease_expired", "critical", said, {"run": run.id}
