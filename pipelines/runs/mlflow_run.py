"""Closes the MLflow run that stands for a whole pipeline run; those of its phases are below it.

    python -m pipelines.runs.mlflow_run URI NAME STATUS '{"seconds": 1.5}'

The phases find that run by its tag, and the first of them makes it, so that nothing waits for MLflow when a pipeline
starts. Only its end is known to nobody but the runner.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components.shared.runtime.code import ROOT
from components.shared.runtime.tracking.mlflow_log import ENVIRONMENT, EXPERIMENT, PIPELINE

SECONDS = 30.0
STATES = {"succeeded": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def start_closing(
    uri: str,
    name: str,
    status: str,
    metrics: Mapping[str, float],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Close the run in a process of its own: MLflow takes seconds to import.

    :param uri: of the tracking server.
    :param name: of the pipeline's run.
    :param environment: variables that its phases had.
    """
    command = [
        sys.executable,
        "-m",
        __name__,
        uri,
        name,
        status,
        json.dumps(dict(metrics)),
    ]
    variables = {**os.environ, **(environment or {})}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)


def wait(closing: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    """Wait for that process, and say when it did not do it: a pipeline's result does not depend on MLflow."""
    try:
        _, errors = closing.communicate(timeout=SECONDS)
        reason = (errors.strip().splitlines() or ["no reason given"])[-1] if closing.returncode else ""
    except subprocess.TimeoutExpired:
        closing.kill()
        closing.communicate()
        reason = f"no answer in {SECONDS:g} s"
    if reason:
        say(f"MLflow was not told that the run has ended: {reason}")


def close(uri: str, name: str, status: str, metrics: Mapping[str, float]) -> None:
    """Find the run, make it where no phase did (all were cached), log its figures and end it."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return  # no phase has ever logged anything here
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
    if experiment is None:
        return
    runs = client.search_runs([experiment.experiment_id], f"tags.`{PIPELINE}` = '{name}'", max_results=1)
    run = (
        runs[0] if runs else client.create_run(experiment.experiment_id, run_name=name, tags={PIPELINE: name})
    )
    for key, number in metrics.items():
        client.log_metric(run.info.run_id, key, number)
    client.set_terminated(run.info.run_id, STATES[status])


if __name__ == "__main__":
    _, address, run_name, ending, figures = sys.argv
    close(address, run_name, ending, json.loads(figures))
