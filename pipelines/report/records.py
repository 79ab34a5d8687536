"""Read a run's folder into records that the report can draw: tasks, phases, manifests.

A task is one process of the pipeline; a phase is all tasks of one of the eight names. What a phase measured is
in the manifest of the artifact that it published; how long it took is in its task's `status.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import InputError

from ..phases import PHASES
from ..runs.folder import DONE, RunFolder, TaskStatus
from ..runs.published import manifest_of


@dataclass(frozen=True)
class Task:
    """One process of the run: its status and the manifest of what it published (empty before that)."""

    status: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """What the run calls it."""
        return str(self.status["task"])

    @property
    def label(self) -> str:
        """A short name for a person: the variant of a cognate, else the component."""
        return str(self.manifest.get("extra", {}).get("variant") or self.status.get("component") or self.name)

    @property
    def data(self) -> list[tuple[str, str]]:
        """What the page leads to where it lies in the run's folder: (what it is, its path there)."""
        outputs = (self.status.get("outputs") or {}).values()
        manifests = [("manifest", f"{output}/forge.json") for output in outputs if self.manifest]
        logs = [("log", f"tasks/{self.name}/log.txt")] if self.status.get("attempts") else []
        return [*manifests, *logs] if outputs else []

    @property
    def done(self) -> bool:
        """Whether its outputs are there."""
        return self.status.get("status") in DONE


@dataclass(frozen=True)
class Phase:
    """All tasks of one phase, in the order in which they started."""

    name: str
    tasks: list[Task] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The gravest state of its tasks; cached where all are."""
        states = [t.status.get("status", "pending") for t in self.tasks]
        for state in ("failed", "cancelled", "running", "pending"):
            if state in states:
                return state
        return (
            "cached"
            if states and all(s == "cached" for s in states)
            else "succeeded"
            if states
            else "pending"
        )

    @property
    def seconds(self) -> float:
        """Wall time from the first task's start to the last one's end; parallel tasks overlap."""
        spans = [
            (t.status["started"], t.status["finished"])
            for t in self.tasks
            if t.status.get("started") and t.status.get("finished")
        ]
        return max(e for _, e in spans) - min(s for s, _ in spans) if spans else 0.0

    @property
    def cpu_seconds(self) -> float:
        """Of all its tasks."""
        return sum(t.status.get("cpu_seconds") or 0.0 for t in self.tasks)

    @property
    def peak_memory_bytes(self) -> int:
        """Of the task that took most."""
        return max((int(t.status.get("peak_memory_bytes") or 0) for t in self.tasks), default=0)

    @property
    def models(self) -> list[Task]:
        """The tasks that published a model: three for cognate, one for every other phase."""
        return [t for t in self.tasks if t.manifest.get("kind") == "model"]

    def extras(self, key: str) -> list[tuple[Task, Any]]:
        """What the manifests of its tasks hold under a key of `extra`, with the task of each."""
        return [(t, t.manifest["extra"][key]) for t in self.tasks if key in t.manifest.get("extra", {})]


@dataclass(frozen=True)
class Run:
    """A run as records."""

    name: str
    info: dict[str, Any]
    phases: list[Phase]

    @property
    def models(self) -> list[tuple[Phase, Task]]:
        """All models of the run, in the order of the phases."""
        return [(phase, task) for phase in self.phases for task in phase.models]

    @property
    def suites(self) -> list[str]:
        """The suites that its models were asked, in the order in which they were."""
        return list(dict.fromkeys(suite for _, task in self.models for suite in task.manifest["scores"]))

    @property
    def final(self) -> Task | None:
        """The last model that the run published."""
        return self.models[-1][1] if self.models else None

    @property
    def cognate_fp32_bytes(self) -> int:
        """Bytes of the largest cognate's weights in fp32: what the agent's size is measured against."""
        counts = [int(t.manifest["parameters"]) for t in self.phases[0].models]
        return 4 * max(counts, default=0)

    @property
    def claims(self) -> list[tuple[Phase, Task, dict[str, Any]]]:
        """What was claimed beside its control, with the phase and the task that measured it."""
        return [
            (phase, task, claim)
            for phase in self.phases
            for task, claims in phase.extras("controls")
            for claim in claims
        ]

    @property
    def controls(self) -> list[tuple[Phase, dict[str, Any]]]:
        """The claims with the phase of each."""
        return [(phase, claim) for phase, _, claim in self.claims]

    @property
    def gates(self) -> list[tuple[Phase, dict[str, Any]]]:
        """The gates that were judged, with the phase of each."""
        return [(p, g) for p in self.phases for t in p.tasks for g in t.manifest.get("gates", [])]


def read(folder: Path) -> Run:
    """The run in `folder`.

    :raises InputError: there is none.
    """
    if not (folder / "run.json").is_file():
        raise InputError(
            f"{folder} is not a run's folder",
            why="it has no run.json",
            fix="give a folder under runs/, or start a run with `make run`",
        )
    info = asdict(RunFolder(folder).read())
    return _run(folder.name, info, [_task(status, folder) for status in RunFolder(folder).tasks()])


def from_records(name: str, records: Sequence[Mapping[str, Any]]) -> Run:
    """The run whose tasks left these records (components/shared/runtime/record.py); all of them succeeded."""
    tasks = [
        Task({**record, "component": record["task"], "status": "succeeded"}, record["manifest"])
        for record in records
    ]
    info = {
        "name": name,
        "status": "succeeded",
        "profile": records[-1]["manifest"]["config"].get("profile", ""),
        "seed": records[-1]["manifest"]["seed"],
        "started": min(record["started"] for record in records),
        "finished": max(record["finished"] for record in records),
    }
    return _run(name, info, tasks)


def _run(name: str, info: dict[str, Any], tasks: list[Task]) -> Run:
    tasks.sort(key=lambda t: (t.status.get("started") or float("inf"), t.name))
    phases = [Phase(phase, [t for t in tasks if t.status.get("phase") == phase]) for phase in PHASES]
    return Run(name, info, phases)


def _task(status: TaskStatus, folder: Path) -> Task:
    manifest: dict[str, Any] = {}
    for output in status.outputs.values():
        manifest = manifest_of(folder / output) or manifest  # an absolute output path wins over the folder
    return Task(asdict(status), manifest)


def to_json(run: Run) -> dict[str, Any]:
    """What the page shows, as plain JSON: each phase's state, cost and models with their scores, claims and gates."""
    return {
        "name": run.name,
        "info": run.info,
        "phases": [
            {
                "phase": phase.name,
                "status": phase.status,
                "seconds": phase.seconds,
                "cpu_seconds": phase.cpu_seconds,
                "peak_memory_bytes": phase.peak_memory_bytes,
                "models": [
                    {
                        "task": task.name,
                        "label": task.label,
                        **{
                            key: task.manifest[key]
                            for key in ("digest", "parameters", "bytes", "metrics", "scores")
                        },
                    }
                    for task in phase.models
                ],
            }
            for phase in run.phases
        ],
        "claims": [
            {"phase": phase.name, "task": task.name, "data": dict(task.data), **claim}
            for phase, task, claim in run.claims
        ],
        "gates": [{"phase": phase.name, **gate} for phase, gate in run.gates],
    }
