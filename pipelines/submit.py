"""Submits the pipeline to a Kubeflow Pipelines server, and waits for it where that is asked for."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import PhaseFailed, StoreError


class Server:
    """A Kubeflow Pipelines API.

    :param host: such as http://localhost:8080 (of `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`).
    :param token: a bearer token, where the server wants one.
    """

    def __init__(self, host: str, namespace: str, token: str = "") -> None:
        import kfp

        self.host = host.rstrip("/")
        self.namespace = namespace
        warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
        try:
            self.client = kfp.Client(host=self.host, namespace=namespace, existing_token=token or None)
        except Exception as error:  # urllib3, kubernetes configuration and TLS all raise their own
            raise self._unreachable(error) from error

    def submit(
        self, text: str, parameters: Mapping[str, Any], *, name: str, experiment: str, caching: bool
    ) -> str:
        """Start a run of the compiled pipeline `text`, and give its id."""
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "pipeline.yaml"
            package.write_text(text)
            try:  # it prints links of its own
                with contextlib.redirect_stdout(io.StringIO()):
                    run = self.client.create_run_from_pipeline_package(
                        str(package),
                        arguments=dict(parameters),
                        run_name=name,
                        experiment_name=experiment,
                        namespace=self.namespace,
                        enable_caching=caching,
                    )
            except Exception as error:
                raise self._unreachable(error) from error
        return str(run.run_id)

    def url(self, run: str) -> str:
        """The page of a run."""
        return f"{self.host}/#/runs/details/{run}"

    def wait(self, run: str, seconds: float) -> None:
        """Wait for the end of a run. Raises PhaseFailed when it ends in anything but success."""
        try:
            ended = self.client.wait_for_run_completion(run, timeout=seconds, sleep_duration=5)
        except TimeoutError as error:
            raise PhaseFailed(
                f"the run did not end in {seconds:g} s", where=self.url(run), fix="it goes on; look there"
            ) from error
        if str(ended.state).upper() != "SUCCEEDED":
            raise PhaseFailed(
                f"the run ended as {ended.state}", where=self.url(run), fix="look at its logs there"
            )

    def _unreachable(self, error: Exception) -> StoreError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return StoreError(
            "the Kubeflow Pipelines server does not take this",
            where=self.host,
            why=f"{type(error).__name__}: {' '.join(lines)[:300]}",
            fix="check --host, --namespace and --token; `forge doctor --host` looks closer",
        )
