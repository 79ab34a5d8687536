"""What MLflow shows of where a model comes from: the data sets and models that a run has read, the model that it has made.

A model is found again by its digest, whichever run has made it, so that a run names the very model that it went on from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DIGEST = "forge.digest"
"""The tag of a logged model that holds its content's digest."""

CONTEXT = "mlflow.data.context"
LONGEST_DIGEST = 36
"""MLflow keeps no more of a data set's digest."""


@dataclass(frozen=True)
class DataSet:
    """Something that a run has read.

    :param name: what it is called there.
    :param digest: of its content.
    :param source: its address.
    :param context: what it was read for: model, training, evaluation.
    """

    name: str
    digest: str
    source: str
    context: str


def log_inputs(client: Any, run: str, data_sets: Sequence[DataSet], experiment: str) -> None:
    """Log what a run has read; models that MLflow knows as models, too."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

    inputs = [
        DatasetInput(
            Dataset(
                name=each.name,
                digest=each.digest[:LONGEST_DIGEST],
                source_type="agent-forge",
                source=json.dumps({"uri": each.source}),
            ),
            [InputTag(CONTEXT, each.context)],
        )
        for each in data_sets
    ]
    known = [_logged_model(client, experiment, each.digest) for each in data_sets if each.context == "model"]
    models = [LoggedModelInput(model.model_id) for model in known if model is not None]
    client.log_inputs(run, datasets=inputs, models=models)


def log_made(
    client: Any, run: str, experiment: str, name: str, digest: str, facts: Mapping[str, str]
) -> None:
    """Log the model that a run has made, unless it is known: the same content made again is the same model.

    A run that goes on, or is done again, has it already; MLflow takes it once.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = _logged_model(client, experiment, digest)
    if model is None:
        model = client.create_logged_model(
            experiment, name=name, source_run_id=run, tags={DIGEST: digest, **facts}, model_type="agent-forge"
        )
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run).outputs
    if outputs is None or model.model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run, models=[LoggedModelOutput(model.model_id, step=0)])


def _logged_model(client: Any, experiment: str, digest: str) -> Any:
    """The model of this digest that MLflow knows; None where it knows none."""
    wanted = f"tags.`{DIGEST}` = '{digest}'"
    found = client.search_logged_models([experiment], filter_string=wanted, max_results=1)
    return found[0] if found else None
