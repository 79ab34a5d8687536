"""What a phase says of itself, once, for everybody who has to know of it: `PHASE` in components/<phase>/component.py.

The pipelines find these by looking (pipelines/phases.py). There is no other list of phases: a new folder is a new
phase. Nothing is imported here, and component.py imports nothing else, so that names, order and help cost nothing and
need no KFP, which the images of the phases have not got. The containers of a phase are described as data too, by
`Interface`; container.py makes KFP's components of them, when a pipeline is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

MODEL, ARTIFACT = "Model", "Artifact"
"""Classes of KFP's artifacts, by their names in `kfp.dsl`."""

T = TypeVar("T")
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
    :param module: below `components`, where its code is not in a folder of its name.
    :param image: that it runs in, where that is not its own.
    """

    name: str
    summary: str
    after: str = ""
    takes: Takes = "model"
    gpu: bool = False
    steps: tuple[Step, ...] = (Step(),)
    timeout_seconds: int = 86_400
    module: str = ""
    image: str = ""

    def step(self, name: str) -> Step:
        """The step of this name.

        :raises KeyError: there is none.
        """
        return {step.name: step for step in self.steps}[name]


@dataclass(frozen=True)
class Interface:
    """One container of a phase: `python -m components.<phase> [--step STEP] --executor-input {{$}}`.

    :param name: of the component.
    :param summary: one sentence; what KFP's UI says of it.
    :param inputs: name → class of each input artifact.
    :param optional: the same, of those that a task may leave out.
    :param output: name and class of the artifact that it makes.
    :param parameters: name → type of what this component is told beside what all are (container.py).
    """

    name: str
    summary: str
    phase: PhaseSpec
    step: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    output: tuple[str, str] = ("model", MODEL)
    parameters: Mapping[str, type] = field(default_factory=dict)


def one_model(phase: PhaseSpec) -> Interface:
    """The container of a phase that takes one model and makes one."""
    return Interface(phase.name, phase.summary, phase=phase, inputs={"input_model": MODEL})


def numbered(name: str, count: int, kind: T) -> dict[str, T]:
    """`name_1` … `name_<count>`: how a list travels.

    KFP hands a list of artifacts whole only to a container beside the loop that made it; inputs of their own reach any
    container, and the phase sees the list `<name>s`.

    :param kind: what each of them is.
    """
    return {f"{name}_{number}": kind for number in range(1, count + 1)}
