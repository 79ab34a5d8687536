"""The MLflow side of tracking, run in a thread: one run per phase below the run of the pipeline."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import mlflow_lineage

EXPERIMENT = "agent-forge"
BATCH = 1000
"""MLflow takes at most so many metrics in one request."""
TRIES = 3

PIPELINE = "forge.pipeline_run"
"""The tag by which phases find the run that stands for the whole pipeline."""
FAILED = "forge.failed."
"""Begins the names of that run's tags, one for each task that has failed for good."""
KFP = "kfp.run_id"

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Defaults for MLflow's client: short timeouts, and nothing sent to anyone but the tracking server."""


@dataclass(frozen=True)
class Destination:
    """Where MLflow is, and what this phase's run is called there.

    :param parent_run: the id of a run that the platform has given: it is the parent, and its end is not our affair.
    :param pipeline_run: the name of the pipeline's own run, made by the first phase that looks for it.
    :param kfp_run: the id of KFP's run, "" elsewhere; with it the pipeline's run is ended and revived by its phases.
    :param task: the name of the task in the pipeline.
    """

    uri: str
    name: str
    parent_run: str = ""
    pipeline_run: str = ""
    identity: str = ""
    kfp_run: str = ""
    task: str = ""


@dataclass
class Operation:
    """One thing to log. `run` is the path of a child run, "" for the phase's own."""

    kind: str
    run: str
    values: dict[str, Any]
    tries: int = 0


class MlflowLog:
    """A connection to MLflow, opened at the first `send`. `refused` says what the server would not take."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.client: Any = None
        self.experiment = ""
        self.runs: dict[str, str] = {}
        self.refused: list[str] = []
        self.is_local = destination.uri.startswith("sqlite:///")
        self.is_uploading = False

    def send(self, pending: list[Operation]) -> None:
        """Send operations in order and take each off the list once it is accepted.

        :raises Exception: whatever MLflow raises; what was not accepted is still on the list.
        """
        if not self.runs:
            self._open()
        while pending:
            number = 1
            if pending[0].kind == "metrics":
                number = _same_metrics(pending)
            operations = pending[:number]
            try:
                self._send(operations)
            except Exception as error:
                operations[0].tries += 1
                if operations[0].tries >= TRIES:  # a request that the server will never take
                    self.refused.append(f"{operations[0].kind}: {error!r:.200}")
                    del pending[:number]
                raise
            del pending[:number]

    def _send(self, operations: list[Operation]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        first = operations[0]
        values = first.values
        if first.kind == "start":
            self.runs[first.run] = self._create(values["name"], self.runs[values["parent"]])
            return
        run = self.runs[first.run]
        if first.kind == "metrics":
            metrics = [
                Metric(_name(name), value, int(operation.values["time"] * 1000), operation.values["step"])
                for operation in operations
                for name, value in operation.values["values"].items()
            ]
            for start in range(0, len(metrics), BATCH):
                self.client.log_batch(run, metrics=metrics[start : start + BATCH])
        elif first.kind == "params":
            params = [Param(_name(name), value[:6000]) for name, value in values.items()]
            for start in range(0, len(params), 100):
                self.client.log_batch(run, params=params[start : start + 100])
        elif first.kind == "tags":
            self.client.log_batch(run, tags=[RunTag(name, value[:5000]) for name, value in values.items()])
        elif first.kind == "inputs":
            mlflow_lineage.log_inputs(self.client, run, values["data_sets"], self.experiment)
        elif first.kind == "made":
            mlflow_lineage.log_made(self.client, run, self.experiment, **values)
        elif first.kind == "end":
            self.client.set_terminated(run, values["status"])
        elif first.kind == "register":
            self.is_uploading = True
            try:
                self._register(run, Path(values["path"]), values["name"])
            finally:
                self.is_uploading = False

    def end_pipeline(self, status: str) -> None:
        """End the pipeline's run, and note on it which task has failed. One that the platform gave is left alone.

        :param status: MLflow's word: FINISHED or FAILED.
        :raises Exception: whatever MLflow raises.
        """
        if self.destination.parent_run:
            return
        with self._connected():
            run = self._pipeline_run()
            if status == "FAILED":
                self.client.set_tag(run, _name(FAILED + self.destination.task), "true")
            self.client.set_terminated(run, status)

    def _open(self) -> None:
        """Connect; find or make the experiment, the pipeline's run and ours."""
        with self._connected():
            parent = self.destination.parent_run
            if not parent and self.destination.pipeline_run:
                parent = self._pipeline_run()
                if self.destination.kfp_run:
                    self._revive(parent)
            tags = {"forge.identity": self.destination.identity, **self._kfp()}
            before = self._find(tags) if self.destination.identity else ""
            if before:
                self.client.update_run(before, status="RUNNING")
            self.runs[""] = before or self._create(self.destination.name, parent, tags)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """With a client and the experiment; alone, where the database is a file that might have to be created."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="alembic")
        with _one_at_a_time(self.destination.uri):
            self.client = MlflowClient(self.destination.uri)
            parent = self.destination.parent_run
            self.experiment = (
                self.client.get_run(parent).info.experiment_id if parent else self._find_experiment()
            )
            yield

    def _revive(self, run: str) -> None:
        """The pipeline's run goes on: a task that had failed is tried again, and no other one's failure stands."""
        pipeline_run = self.client.get_run(run)
        own = _name(FAILED + self.destination.task)
        if own in pipeline_run.data.tags:
            self.client.delete_tag(run, own)
        others = [tag for tag in pipeline_run.data.tags if tag.startswith(FAILED) and tag != own]
        if pipeline_run.info.status != "RUNNING" and not others:
            self.client.update_run(run, status="RUNNING")

    def _kfp(self) -> dict[str, str]:
        return {KFP: self.destination.kfp_run} if self.destination.kfp_run else {}

    def _find_experiment(self) -> str:
        if os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self.client.create_experiment(name, artifact_location=self._artifacts()))
            except MlflowException:  # another phase made it in between
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)

    def _artifacts(self) -> str | None:
        """Beside a local database; a server decides for itself."""
        if not self.is_local:
            return None
        return (_database(self.destination.uri).parent / "mlartifacts").as_uri()

    def _pipeline_run(self) -> str:
        """The run that stands for the whole pipeline; of several made at the same time the first."""
        name = self.destination.pipeline_run
        tag = {PIPELINE: name}
        if not self._find(tag):
            created = self._create(name, "", {**tag, **self._kfp()})
            first = self._find(tag)
            if first and first != created:
                self.client.delete_run(created)
        return self._find(tag)

    def _find(self, tags: dict[str, str]) -> str:
        """The first run that has all these tags, "" where there is none."""
        wanted = (f"tags.`{tag}` = '" + value.replace("'", "") + "'" for tag, value in tags.items())
        runs = self.client.search_runs(
            [self.experiment],
            " and ".join(wanted),
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return str(runs[0].info.run_id) if runs else ""

    def _create(self, name: str, parent: str, tags: dict[str, str] | None = None) -> str:
        tags = {"mlflow.runName": name, **({"mlflow.parentRunId": parent} if parent else {}), **(tags or {})}
        return str(self.client.create_run(self.experiment, tags=tags).info.run_id)

    def _register(self, run: str, path: Path, name: str) -> None:
        from mlflow.exceptions import MlflowException

        self.client.log_artifacts(run, str(path), "agent")
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self.client.get_run(run).info.artifact_uri}/agent"
        self.client.create_model_version(name, source, run)


def _same_metrics(pending: list[Operation]) -> int:
    """How many operations at the head are metrics of one run: they travel together."""
    number = 0
    while (
        number < len(pending) and pending[number].kind == "metrics" and pending[number].run == pending[0].run
    ):
        number += 1
    return number


def _name(name: str) -> str:
    """MLflow takes letters, digits and _-. :/ in names."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name)[:250]


def _database(uri: str) -> Path:
    """The file of a SQLite address: sqlite:///relative or sqlite:////absolute."""
    return Path(uri.removeprefix("sqlite:///")).absolute()


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """A file lock: two processes that create one SQLite database would mix its migrations up."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    from filelock import FileLock

    database = _database(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        yield
