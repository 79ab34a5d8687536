"""What is asked for, and what would be done: a request, and the plan that `prepare` makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.shared.preflight.estimate import PhaseCost

from ..ir.spec import Pipeline
from ..phases import PHASES, ROUNDS, WORKERS
from ..runs.folder import RunFolder, RunStatus
from .options import RunOptions

Fate = Literal["run", "cached", "done", "left out"]
"""Whether a task will run, is taken from an earlier run, is done in this one already, or is beyond the last phase."""


@dataclass(frozen=True)
class RunRequest:
    """What is asked for. `resume` names a run to go on with; everything that decides results is then that run's.

    :param runs: the folder of all runs.
    :param name: of the run; the time and the profile where none is given.
    :param first: the first phase to run; `last` is the last one.
    :param without: phases that are left out between them: the model before goes on as it is.
    :param base_models: what cognate makes its variants of: names of its own, or models that are given.
    :param base_dtype: that given models are converted to: float32, bfloat16, float16; empty: as they are.
    :param artifacts: addresses of the models with which `first` starts, in place of the phases before it.
    :param profile: of the settings, which are composed and become parameters of the pipeline; empty for tiny.
    :param overrides: of them, `phase.key=value`.
    :param seed: of everything random; None for that of the files.
    :param parameters: of the pipeline, as texts or values; they win.
    :param pipeline: a compiled pipeline; without one, the project's own.
    :param rounds: of evomerge's search, with `workers` side by side.
    :param store: where artifacts are kept beyond this machine: s3://bucket/prefix or a folder.
    :param slots: phases at the same time; 0 for as many as the machine is good for.
    :param cache: take what an earlier run has made of the same.
    :param experiment: MLflow's; empty for that of the environment, or agent-forge.
    :param environment: variables for every phase.
    :param grace: seconds that phases have for their checkpoints when the run is stopped.
    """

    runs: Path = Path("runs")
    name: str = ""
    resume: str = ""
    first: str = PHASES[0]
    last: str = PHASES[-1]
    without: Sequence[str] = ()
    base_models: Sequence[str] = ()
    base_dtype: str = ""
    artifacts: Sequence[str] = ()
    profile: str = ""
    overrides: Sequence[str] = ()
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pipeline: Path | None = None
    rounds: int = ROUNDS
    workers: int = WORKERS
    store: str = ""
    slots: int = 0
    cache: bool = True
    experiment: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: float = 30.0


@dataclass(frozen=True)
class PlannedTask:
    """A task, and what will become of it.

    :param seconds: that it took in an earlier run; None where none is known, 0 where it does not run.
    :param depends_on: the tasks, or the nested pipelines, that it waits for.
    """

    name: str
    phase: str
    component: str
    fate: Fate
    seconds: float | None = None
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A run that can be executed: everything in it is checked, and nothing is written yet.

    :param status: what run.json will say.
    :param tasks: in the order of the graph. What lies in loops whose items a task will make is not known yet.
    :param seconds: how long it may take; None where no earlier run tells.
    :param costs: what each phase that will run takes, worked out from the model's shape; none where that is not known.
    """

    request: RunRequest
    folder: RunFolder
    pipeline: Pipeline
    status: RunStatus
    options: RunOptions
    tasks: tuple[PlannedTask, ...]
    seconds: float | None
    costs: tuple[PhaseCost, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the pipeline, complete and typed."""
        return self.status.parameters

    @property
    def ignored(self) -> tuple[str, ...]:
        """Settings of the pipeline that have no meaning on this machine."""
        return self.pipeline.ignored

    def to_json(self) -> dict[str, Any]:
        """Everything that a person or a program wants to know before it starts, as plain JSON."""
        return {
            "name": self.folder.name,
            "folder": str(self.folder.path),
            "pipeline": self.pipeline.name,
            "profile": self.status.profile,
            "seed": self.status.seed,
            "parameters": self.parameters,
            "store": self.status.store,
            "slots": self.options.slots,
            "resume": self.options.resume,
            "seconds": self.seconds,
            "ignored": list(self.ignored),
            "tasks": [asdict(task) for task in self.tasks],
            "costs": [asdict(cost) for cost in self.costs],
        }
