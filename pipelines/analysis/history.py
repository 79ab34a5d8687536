"""What the phases have taken in all runs of a folder: the runs' own records, which the control plane indexes too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import ForgeError

from ..runs.folder import RunFolder, RunStatus, TaskStatus, readable
from . import performance
from .catalog import ModelRecord, catalog
from .measurements import of_task
from .performance import MOST_MODELS, WINDOW, Pace, Report, mean, suite_means

SYSTEM = "system/"
"""Before the names of what a phase's process has used, as components/shared/runtime/tracking/usage.py writes them."""


@dataclass(frozen=True)
class Execution:
    """A phase in one run: what its tasks add up to.

    :param failures: attempts of its tasks that failed.
    :param finished: when the last of them ended, in Unix seconds.
    :param tasks: those of it that did work.
    """

    run: RunFolder
    phase: str
    profile: str
    seconds: float
    cpu_seconds: float
    memory_bytes: int
    failures: int
    succeeded: bool
    finished: float
    tasks: tuple[TaskStatus, ...]


def report_of_runs(runs: Path) -> Report:
    """The report of performance of all runs below a folder.

    :raises InputError: there is no such folder.
    """
    models = [record for record in catalog(runs).models if record.score is not None]
    found = list(readable(runs))
    executions = [each for folder, status in found for each in executions_of(folder, status)]
    executions.sort(key=lambda each: each.finished)
    return performance.report(
        list(paces(executions)),
        states=dict(sorted(Counter(status.status for _, status in found).items())),
        spent={phase: _spent(own) for phase, own in _grouped(executions).items()},
        models=_models(models),
        quality=_quality(models),
    )


def executions_of(folder: RunFolder, status: RunStatus) -> Iterator[Execution]:
    """The phases of a run that did work in it; what came from the cache, was left out or stopped is none.

    A run whose tasks cannot be read has none.
    """
    try:
        tasks = [each for each in folder.tasks() if each.phase and each.status in ("succeeded", "failed")]
    except (ForgeError, OSError):
        return
    for phase in dict.fromkeys(each.phase for each in tasks):
        own = tuple(each for each in tasks if each.phase == phase)
        failed = sum(each.status == "failed" for each in own)
        yield Execution(
            run=folder,
            phase=phase,
            profile=status.profile,
            seconds=sum(each.seconds for each in own),
            cpu_seconds=sum(each.cpu_seconds for each in own),
            memory_bytes=max(each.peak_memory_bytes for each in own),
            failures=sum(max(each.attempts - 1, 0) for each in own) + failed,
            succeeded=not failed,
            finished=max(each.finished or each.started or 0.0 for each in own),
            tasks=own,
        )


def paces(executions: Sequence[Execution]) -> Iterator[Pace]:
    """How long each phase takes, profile by profile.

    :param executions: in the order in which they ended.
    """
    groups: dict[tuple[str, str], list[Execution]] = {}
    for each in executions:
        groups.setdefault((each.phase, each.profile), []).append(each)
    for (phase, profile), own in sorted(groups.items()):
        yield performance.pace(
            phase,
            profile,
            executions=len(own),
            succeeded=sum(each.succeeded for each in own),
            failures=sum(each.failures for each in own),
            mean_time=mean([each.seconds for each in own]),
            last=own[-1].finished,
            first=own[:WINDOW],
            newest=own[-WINDOW:],
        )


def _grouped(executions: Sequence[Execution]) -> dict[str, list[Execution]]:
    return {
        phase: [each for each in executions if each.phase == phase]
        for phase in sorted({each.phase for each in executions})
    }


def _spent(executions: Sequence[Execution]) -> dict[str, float]:
    """Hours of all; of the newest ones also the mean and the most of what was looked at while they ran."""
    hours = {
        "hours": sum(each.seconds for each in executions) / 3600,
        "core_hours": sum(each.cpu_seconds for each in executions) / 3600,
    }
    used: dict[str, list[float]] = {}
    for each in executions[-WINDOW:]:
        for name, values in _used(each):
            used.setdefault(name, []).extend(values)
    return (
        hours
        | {f"mean_{name}": mean(values) for name, values in used.items()}
        | {f"most_{name}": max(values) for name, values in used.items()}
    )


def _used(execution: Execution) -> Iterator[tuple[str, list[float]]]:
    for task in execution.tasks:
        try:
            series = of_task(execution.run, task)
        except (ForgeError, OSError):
            continue  # it is not there any more: what it used is not known
        for measured in series:
            if measured.name.startswith(SYSTEM):
                yield measured.name.removeprefix(SYSTEM), measured.values


def _models(models: Sequence[ModelRecord]) -> dict[str, Any]:
    named = ("digest", "phase", "run", "score", "bytes", "parameters")
    best = sorted(models, key=lambda record: (-(record.score or 0.0), record.digest))[:MOST_MODELS]
    phases = {}
    known = {record.digest: record.score or 0.0 for record in models}
    for phase in sorted({record.phase for record in models}):
        own = [record for record in models if record.phase == phase]
        scores = [record.score or 0.0 for record in own]
        phases[phase] = {
            "phase": phase,
            "models": len(own),
            "mean_score": mean(scores),
            "best_score": max(scores),
            "mean_bytes": mean([record.bytes for record in own]),
            "gained": mean(gains) if (gains := list(_gains(own, known))) else None,
        }
    return {"best": [{name: getattr(record, name) for name in named} for record in best], "phases": phases}


def _gains(models: Sequence[ModelRecord], known: Mapping[str, float]) -> Iterator[float]:
    """Of each model whose parents were scored: its score less the mean of theirs.

    :param known: digest → score.
    """
    for record in models:
        parents = [known[digest] for digest in record.parents if digest in known]
        if parents:
            yield (record.score or 0.0) - mean(parents)


def _quality(models: Sequence[ModelRecord]) -> dict[str, dict[str, float]]:
    """The mean of each suite over the newest models of each phase."""
    quality: dict[str, dict[str, float]] = {}
    for phase in sorted({record.phase for record in models}):
        own = sorted((record for record in models if record.phase == phase), key=lambda each: each.finished)
        quality[phase] = suite_means([record.scores for record in own[-WINDOW:]])
    return quality
