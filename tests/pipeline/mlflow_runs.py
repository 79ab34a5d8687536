"""MLflow runs that stand for whole pipeline runs, as the first phase of one makes them."""

from pathlib import Path

from mlflow import MlflowClient

from components.shared.runtime.tracking.mlflow_log import EXPERIMENT, PIPELINE
from tests.contract.killing import empty_database


def pipeline_run(uri: str, name: str) -> tuple[MlflowClient, str]:
    """The MLflow run of the pipeline run `name`, RUNNING, in the database at `uri`: a client and the run's id."""
    database = Path(uri.removeprefix("sqlite:///"))
    if not database.exists():  # MLflow takes four seconds of a processor to make one
        database.write_bytes(empty_database())
    client = MlflowClient(uri)
    experiment = client.create_experiment(EXPERIMENT)
    return client, client.create_run(experiment, tags={PIPELINE: name}).info.run_id
