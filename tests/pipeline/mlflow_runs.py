"""MLflow runs that stand for whole pipeline runs, as the first phase of one makes them."""

from mlflow import MlflowClient

from components.shared.runtime.tracking.mlflow_log import EXPERIMENT, PIPELINE


def pipeline_run(uri: str, name: str) -> tuple[MlflowClient, str]:
    """The MLflow run of the pipeline run `name`, RUNNING, in the database at `uri`: a client and the run's id."""
    client = MlflowClient(uri)
    experiment = client.create_experiment(EXPERIMENT)
    return client, client.create_run(experiment, tags={PIPELINE: name}).info.run_id
