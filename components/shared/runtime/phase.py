"""A phase: three methods. All that phases have in common is done by executor.py, once.

class Distill(Phase[Settings], spec=PHASE):

    def validate_input(self): ...   # refuse, before any work, what cannot be worked on
    def execute(self): ...          # the algorithm; its files go to self.run.output
    def get_metrics(self): ...      # what gates, manifest and MLflow get to see
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, get_args, get_origin

import numpy as np
import torch

from components.shared.phase_spec import PhaseSpec

from .artifact.artifact import Artifact
from .checkpoint.checkpoints import Checkpoints
from .config.settings import Config, PhaseSettings, S
from .errors import InputError
from .tracking.mlflow_tracker import Tracker
from .tracking.progress import Progress


@dataclass
class Run(Generic[S]):
    """What a phase is given, and where it leaves its result.

    :param inputs: verified artifacts by the name of the pipeline's input; by hand all under "input_model".
    :param parameters: the pipeline's parameter values (variant, index, round …); by hand `--set key=value`.
    :param step: which step of the phase, where it has several.
    :param output: staging directory; the phase writes its files here, but never forge.json.
    :param work: scratch that survives a kill and goes away after success.
    :param kind: "model", "trunk" or "population".
    :param scores: suite → Score of the output on the report split; goes into the manifest.
    :param gates: results of checks that the phase made itself; those of the configuration are added.
    :param extra: anything plain and deterministic that the report shows; goes into the manifest.
    :param timing: what was measured in time, by name; goes into the manifest's `timing`, in which equal runs differ.
    """

    config: Config[S]
    inputs: dict[str, list[Artifact]]
    parameters: dict[str, Any]
    output: Path
    work: Path
    checkpoints: Checkpoints
    progress: Progress
    tracker: Tracker
    step: str = ""
    kind: str = "model"
    extra: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)

    @property
    def settings(self) -> S:
        """The phase's own settings, typed by its pydantic model."""
        return self.config.settings

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.config.seed

    @property
    def artifact(self) -> Artifact:
        """The one input model.

        :raises InputError: there is none, or more than one.
        """
        models = self.inputs.get("input_model", [])
        if len(models) != 1:
            raise InputError(
                f"phase {self.config.phase!r} works on one model and was given {len(models)}",
                where="input 'input_model'",
                fix="give --input once",
            )
        return models[0]

    def generator(self, name: str) -> torch.Generator:
        """A torch generator (CPU) that depends on seed, phase and `name`, and on nothing else."""
        return torch.Generator().manual_seed(self._seed_of(name))

    def numpy(self, name: str) -> np.random.Generator:
        """The same for numpy."""
        return np.random.default_rng(self._seed_of(name))

    def _seed_of(self, name: str) -> int:
        text = f"{self.config.phase}/{self.seed}/{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Phase(ABC, Generic[S]):
    """One phase of the pipeline, or one step of it: `class Distill(Phase[Settings], spec=PHASE)`.

    :param spec: what its component.py declares.
    """

    spec: ClassVar[PhaseSpec]
    name: ClassVar[str]
    Settings: ClassVar[type[PhaseSettings]]
    """The pydantic model that `Phase[…]` names."""

    def __init_subclass__(cls, spec: PhaseSpec | None = None, **others: Any) -> None:
        super().__init_subclass__(**others)
        if spec is not None:
            cls.spec, cls.name = spec, spec.name
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Phase and isinstance(get_args(base)[0], type):
                [cls.Settings] = get_args(base)

    def __init__(self, run: Run[S]) -> None:
        self.run = run

    @abstractmethod
    def validate_input(self) -> None:
        """Refuse (InputError) what the phase cannot work on, before any work."""

    @abstractmethod
    def execute(self) -> None:
        """Do the work and write the artifact's files into `self.run.output`."""

    @abstractmethod
    def get_metrics(self) -> dict[str, float]:
        """What was measured, for gates, manifest and MLflow. Called after `execute`."""
