"""KFP's components of the phases' containers, made of what each component.py describes (phase_spec.py).

A component's interface is part of every task's record in a workflow, which may not grow over a megabyte. So a
parameter that all phases share is explained here, and not in each compiled component:

==================  ==================================================================================
`settings`          all that the phase is told, as JSON: composed and validated where the run was submitted
`seed`              of everything random in the phase
`code_version`      of the code that the run was submitted for; a phase refuses to run with another
`checkpoint_root`   where checkpoints go; empty for the run's own place in the object store
==================  ==================================================================================

`settings` is a text and not KFP's STRUCT: KFP sorts the keys of a STRUCT and makes doubles of its numbers, and the order
in which a mixture names its tasks is the order in which they are drawn. As a text it arrives, and is cached by, the
bytes that were submitted.

Beside its artifact each task leaves `metrics`: scores, size and seconds as metadata, and as its file the task's
record (manifest, timing, curves), from which the report is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from kfp import dsl

from .image import arguments, image
from .phase_spec import Interface

COMMON: Mapping[str, type] = {"settings": str, "seed": int, "code_version": str, "checkpoint_root": str}
"""What every phase is told, with its type."""


def component(interface: Interface) -> Any:
    """KFP's container component of an interface."""
    artifacts = {**interface.inputs, **interface.optional}
    annotations: dict[str, Any] = {key: dsl.Input[getattr(dsl, kind)] for key, kind in artifacts.items()}
    name, kind = interface.output
    annotations |= {name: dsl.Output[getattr(dsl, kind)], "metrics": dsl.Output[dsl.Metrics]}
    annotations |= {**interface.parameters, **COMMON}
    phase, step = interface.phase, interface.step

    def container(*_: Any) -> dsl.ContainerSpec:
        where, module = phase.image or phase.name, phase.module or phase.name
        return dsl.ContainerSpec(image=image(where), command=["python"], args=arguments(module, step))

    return declared(container, interface.name, interface.summary, annotations, interface.optional)


def declared(
    container: Any, name: str, summary: str, annotations: Mapping[str, Any], optional: Mapping[str, Any]
) -> Any:
    """`container` as a KFP component whose interface is `annotations`; what is `optional` may be left out."""
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
