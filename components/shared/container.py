"""The KFP container components of the phases: one way to declare them all.

A component's interface is part of every task's record in a workflow, which may not grow over a megabyte. So a
parameter that all phases share is explained here, and not in each compiled component:

==================  ==================================================================================
`profile`           configs/profile/<profile>.yaml
`overrides`         Hydra overrides, such as "bitnet.threads=4"
`seed`              of everything random in the phase
`code_version`      of the code that the run was submitted for; a phase refuses to run with another
`config_digest`     of the configuration files that it was submitted for; likewise
`checkpoint_root`   where checkpoints go; empty for the run's own place in the object store
==================  ==================================================================================

Beside its artifact each task leaves `metrics`: scores, size and seconds as metadata, and as its file the task's
record (manifest, timing, curves), from which the report is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from .image import arguments, image

COMMON: Mapping[str, type] = {
    "profile": str,
    "overrides": list[str],
    "seed": int,
    "code_version": str,
    "config_digest": str,
    "checkpoint_root": str,
}
"""What every phase is told, with its type."""


def component(
    name: str,
    summary: str,
    *,
    phase: str,
    step: str = "",
    inputs: Mapping[str, type] | None = None,
    optional: Mapping[str, type] | None = None,
    output: tuple[str, type] = ("model", Model),
    parameters: Mapping[str, type] | None = None,
) -> Any:
    """The container component `name`: `python -m components.<phase> [--step STEP] --executor-input {{$}}`.

    :param summary: one sentence; what KFP's UI says of it.
    :param inputs: name → class of each input artifact.
    :param optional: the same, of those that a task may leave out.
    :param output: name and class of the artifact that it makes.
    :param parameters: name → type of what this component is told beside COMMON.
    """
    optional = optional or {}
    artifacts = {**(inputs or {}), **optional}
    annotations: dict[str, Any] = {key: Input[kind] for key, kind in artifacts.items()}
    annotations |= {output[0]: Output[output[1]], "metrics": Output[Metrics]}  # type: ignore[valid-type]
    annotations |= {**(parameters or {}), **COMMON}

    def container(*_: Any) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image=image(phase), command=["python"], args=arguments(phase, step))

    return declared(container, name, summary, annotations, optional)


def declared(
    container: Any, name: str, summary: str, annotations: Mapping[str, Any], optional: Mapping[str, Any]
) -> Any:
    """`container` as a component whose interface is `annotations`; what is `optional` may be left out."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    container.__name__, container.__doc__ = name, summary
    container.__annotations__ = dict(annotations)
    container.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                key, keyword, annotation=kind, default=None if key in optional else inspect.Parameter.empty
            )
            for key, kind in annotations.items()
        ],
        return_annotation=dsl.ContainerSpec,
    )
    return dsl.container_component(container)


def one_model(phase: str, summary: str) -> Any:
    """The component of a phase that takes one model and makes one."""
    return component(phase, summary, phase=phase, inputs={"model": Model}, output=("output_model", Model))


def numbered(name: str, count: int, kind: type = Artifact) -> dict[str, type]:
    """`name_1` … `name_<count>`: how a list travels. KFP hands a list of artifacts whole only to a container beside
    the loop that made it; inputs of their own reach any container, and the phase sees the list `<name>s`.
    """
    return {f"{name}_{number}": kind for number in range(1, count + 1)}
