"""What a run has measured, task by task: last values, and the curves behind them.

A task that is done says it in its record (components/shared/runtime/record.py) and its manifest. Of one that runs, or was
stopped, there are metrics.jsonl beside its checkpoints and the lines of its progress.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import InputError
from components.shared.runtime.tracking import curves
from components.shared.runtime.wording import did_you_mean

from ..runs.folder import DONE, RunFolder, TaskStatus
from ..runs.published import manifest_of, record

RECORD = "metrics"
"""The output of a task that is the file of its record."""


@dataclass
class Series:
    """One measurement of one task.

    :param group: what is drawn together: the title of a curve; "" for a measurement that stands alone.
    :param steps: as many as there are values.
    :param xlabel: what a step is.
    """

    task: str
    phase: str
    name: str
    group: str = ""
    xlabel: str = "step"
    ylabel: str = ""
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the last value beside the whole curve."""
        return {**vars(self), "last": self.last}


def measurements(folder: RunFolder, *, task: str = "", pattern: str = "") -> list[Series]:
    """All that a run has measured, in the order in which its tasks started.

    :param task: only of this task, or of the tasks of this phase.
    :param pattern: of the names: a shell pattern such as `score/*`; without wildcards, a part of the name.
    :raises InputError: the run has no such task, or has measured nothing of that name.
    """
    statuses = [status for status in folder.tasks() if status.started]
    names = list(
        dict.fromkeys([*(status.task for status in statuses), *(s.phase for s in statuses if s.phase)])
    )
    if task and task not in names:
        raise InputError(
            f"the run has measured nothing in a task {task!r}",
            where=str(folder.path),
            fix=did_you_mean(task, names),
        )
    chosen = [status for status in statuses if task in ("", status.task, status.phase)]
    series = [measured for status in chosen for measured in of_task(folder, status)]
    if pattern:
        wanted = pattern.lower() if any(sign in pattern for sign in "*?[") else f"*{pattern.lower()}*"
        known = list(dict.fromkeys(measured.name for measured in series))
        series = [measured for measured in series if fnmatch.fnmatchcase(measured.name.lower(), wanted)]
        if not series:
            raise InputError(
                f"nothing that was measured is called {pattern!r}", where=f"{folder.path}, --name",
                fix=did_you_mean(pattern, known),
            )  # fmt: skip
    return series


def of_task(folder: RunFolder, status: TaskStatus) -> list[Series]:
    """What one task has measured."""
    if status.status in DONE:
        manifest, lines = _published(folder, status)
        extra = manifest.get("extra", {})
        scores = {f"score/{suite}": score["score"] for suite, score in manifest.get("scores", {}).items()}
        final = {**manifest.get("metrics", {}), **scores}
        collected = list(_tracked(status, [*lines, {"run": "", "step": None, "metrics": final}]))
        return [*collected, *drawn_curves(status.task, status.phase, extra.get("curves", {}))]
    task_folder = folder.task(status.task)
    spools = sorted(
        task_folder.checkpoints.glob(f"*.work/{curves.FILE}"), key=lambda path: path.stat().st_mtime
    )
    lines = curves.read(spools[-1]) if spools else []
    return [*_tracked(status, lines), *_progress(status, task_folder.progress)]


def _published(folder: RunFolder, status: TaskStatus) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest of what a task has made and the lines of its record; without a record, the manifest alone."""
    manifest: dict[str, Any] = {}
    for name, output in status.outputs.items():
        path = folder.path / output  # an absolute path stays what it is
        if name == RECORD and path.is_file():
            written = record(path)
            return written["manifest"], [*written.get("curves", []), *written.get("usage", [])]
        manifest = manifest_of(path) or manifest
    return manifest, []


def _tracked(status: TaskStatus, lines: Iterable[Mapping[str, Any]]) -> Iterator[Series]:
    """Lines of metrics.jsonl as series; a value without a step stands behind the last one that has one."""
    series: dict[str, Series] = {}
    for line in lines:
        for metric, value in line["metrics"].items():
            if value is None or not math.isfinite(value):
                continue
            name = "/".join(filter(None, (str(line.get("run") or ""), metric)))
            measured = series.setdefault(name, Series(status.task, status.phase, name))
            step = line.get("step")
            if step is None and measured.values and math.isclose(value, measured.values[-1], rel_tol=1e-12):
                continue  # the last value of a curve, repeated at the end
            measured.steps.append(
                float(step) if step is not None else (measured.steps[-1] + 1 if measured.steps else 0.0)
            )
            measured.values.append(float(value))
    yield from series.values()


def drawn_curves(task: str, phase: str, specs: Mapping[str, Mapping[str, Any]]) -> Iterator[Series]:
    """The curves of a manifest's extra["curves"] (components/shared/evaluation/curves.py) as series."""
    for title, spec in specs.items():
        for name, values in spec["series"].items():
            points = [
                (float(x), float(y))
                for x, y in zip(spec["x"], values, strict=False)
                if y is not None and math.isfinite(y)
            ]
            if points:
                yield Series(
                    task, phase, f"{title}: {name}", title, spec.get("xlabel", "step"), spec.get("ylabel", ""),
                    [x for x, _ in points], [y for _, y in points],
                )  # fmt: skip


def _progress(status: TaskStatus, file: Path) -> Iterator[Series]:
    """What a task that is not done has said of its stages so far."""
    if not file.is_file():
        return
    series: dict[str, Series] = {}
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            stage, step = str(line["stage"]), float(line["step"])
            values = {
                str(metric): float(value)
                for metric, value in (line.get("metrics") or {}).items()
                if value is not None
            }
        except (ValueError, KeyError, TypeError, AttributeError):  # a note, or cut off by a kill
            continue
        for metric, value in values.items():
            name = f"{stage}: {metric}"
            measured = series.setdefault(name, Series(status.task, status.phase, name, stage))
            measured.steps.append(step)
            measured.values.append(value)
    yield from series.values()
