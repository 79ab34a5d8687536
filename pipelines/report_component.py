"""The container that makes a run's page and the assessment of its last model, at the end of the pipeline."""

from __future__ import annotations

from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Input, Metrics, Output

from components.shared.assessment import OUTPUT
from components.shared.container import declared
from components.shared.image import image
from components.shared.phase_spec import numbered


def report(records: int) -> Any:
    """The component `report`: the records of all tasks in; the page out, and the assessment with its figures for KFP.

    :param records: how many tasks there are.
    """
    annotations = {name: Input[Metrics] for name in numbered("record", records, Metrics)}

    def container(*_: Any) -> dsl.ContainerSpec:
        arguments = ["-m", "pipelines.report", "--executor-input", "{{$}}"]
        return dsl.ContainerSpec(image=image("forge"), command=["python"], args=arguments)

    summary = (
        "The page of the run: scores through the phases, size against quality, claims beside their controls; and the "
        "assessment of its last model."
    )
    outputs = {"page": Output[HTML], OUTPUT: Output[Metrics]}
    return declared(container, "report", summary, {**annotations, **outputs}, {})
