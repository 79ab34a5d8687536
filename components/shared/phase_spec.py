"""What a phase says of itself, once, for everybody who has to know of it: `PHASE` in components/<phase>/component.py.

The pipelines find these by looking (pipelines/phases.py). There is no other list of phases: a new folder is a new
phase. Nothing is imported here, and component.py imports nothing else, so that names, order and help cost nothing and
need no KFP, which the images of the phases have not got.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Takes = Literal["base models", "models", "model"]


@dataclass(frozen=True)
class Step:
    """One kind of task of a phase.

    :param name: the value of `--step`; "" for what a phase does without one.
    :param light: it only copies or chooses, and needs no accelerator whatever its phase.
    """

    name: str = ""
    light: bool = False


@dataclass(frozen=True)
class PhaseSpec:
    """One phase of the pipeline.

    :param name: of its folder, its section of the settings and its image.
    :param summary: one sentence; what KFP's page says of its component.
    :param after: the phase before it; "" for the first.
    :param takes: what it starts from: names or addresses of base models, the models that the phase before has made, or
        one model. Each phase gives one model, but for the first.
    :param gpu: its pods ask for an accelerator, unless the cluster's settings say otherwise.
    :param steps: the kinds of its tasks.
    :param timeout_seconds: of one attempt of one task, which the cluster's settings may stretch or cut.
    """

    name: str
    summary: str
    after: str = ""
    takes: Takes = "model"
    gpu: bool = False
    steps: tuple[Step, ...] = (Step(),)
    timeout_seconds: int = 86_400

    def step(self, name: str) -> Step:
        """The step of this name.

        :raises KeyError: there is none.
        """
        return {step.name: step for step in self.steps}[name]
