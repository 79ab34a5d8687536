"""A Kubeflow Pipelines server: submit, look at, cancel and retry runs, and upload pipelines (REST API v2beta1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from components.shared.runtime.errors import StoreError

from ..ir.documents import LOADER
from .http import CONNECT_SECONDS, READ_SECONDS, Access, Connection, NotFound

RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
RUN_PAGE = re.compile(r"^(https?://.+?)/*#/runs/details/([^/?#]+)")


class Server:
    """A Kubeflow Pipelines API.

    :param seconds: limits of connecting, and of waiting for each part of an answer.
    :raises ConfigError: there is no address, or no such file of certificates.
    """

    def __init__(
        self, access: Access, *, seconds: tuple[float, float] = (CONNECT_SECONDS, READ_SECONDS)
    ) -> None:
        self.access = access
        self.http = Connection(access, seconds=seconds)
        self.host = self.http.host
        self.namespace = access.namespace

    def url(self, run: str) -> str:
        """The page of a run."""
        return f"{self.host}/#/runs/details/{run}"

    def submit(
        self,
        text: str,
        parameters: Mapping[str, Any],
        *,
        name: str,
        experiment: str,
        caching: bool,
        secret: tuple[str, Mapping[str, str]] | None = None,
    ) -> str:
        """Start a run of the compiled pipeline `text`, and give its id.

        :param secret: a Secret of this run alone, and what its keys are called in the pods' environment; it may be missing.
        """
        body = {
            "display_name": name,
            "experiment_id": self._experiment(experiment),
            "pipeline_spec": specification(text, caching=caching, secret=secret),
            "runtime_config": {"parameters": dict(parameters)},
        }
        return self._id(self.http.post("/runs", body), "run_id", "/runs")

    def run(self, run: str) -> dict[str, Any]:
        """A run as the API has it, with its pipeline.

        :raises NotFound: there is none.
        """
        answer = self.http.get(f"/runs/{run}")
        self._id(answer, "run_id", f"/runs/{run}")
        reference = answer.get("pipeline_version_reference") or {}
        if not answer.get("pipeline_spec") and reference.get("pipeline_version_id"):
            pipeline = self._id(reference, "pipeline_id", f"/runs/{run}")
            version_path = f"/pipelines/{pipeline}/versions/{reference['pipeline_version_id']}"
            answer["pipeline_spec"] = self.http.get(version_path).get("pipeline_spec")
        return answer

    def find(self, name: str) -> str:
        """The id of a run: itself, the address of its page, its name, or `latest`.

        :raises NotFound: there is none, or several have this name.
        """
        if page := RUN_PAGE.match(name):
            return page[2]
        if RUN_ID.fullmatch(name):
            return name
        asked: dict[str, Any] = {"page_size": 2, "sort_by": "created_at desc", "namespace": self.namespace}
        if name != "latest":
            asked["filter"] = _equal("display_name", name)
        runs = self.http.get("/runs", asked).get("runs") or []
        if not runs:
            raise NotFound(
                "there is no run yet" if name == "latest" else f"there is no run {name!r}",
                where=f"{self.host}, namespace {self.namespace}",
                fix="give its id, its name, or the address of its page",
            )
        if name != "latest" and len(runs) > 1:
            raise NotFound(
                f"several runs are called {name!r}",
                where=self.host,
                why="the newest are " + " and ".join(str(run.get("run_id")) for run in runs),
                fix="give the id, or the address of its page",
            )
        return self._id(runs[0], "run_id", "/runs")

    def terminate(self, run: str) -> None:
        """Stop a run."""
        self.http.post(f"/runs/{run}:terminate")

    def retry(self, run: str) -> None:
        """Start a failed run again at the task that failed."""
        self.http.post(f"/runs/{run}:retry")

    def upload(self, name: str, text: str, *, version: str, description: str = "") -> bool:
        """Put a pipeline there under `name`, as its version `version`. False when that is there already."""
        pipeline = self._pipeline(name) or self._new_pipeline(name, description)
        asked = {"page_size": 1, "filter": _equal("display_name", version)}
        versions = self.http.get(f"/pipelines/{pipeline}/versions", asked).get("pipeline_versions") or []
        if any(version in (entry.get("name"), entry.get("display_name")) for entry in versions):
            return False
        query = {"pipelineid": pipeline, "name": version, "display_name": version, "description": description}
        uploaded = self.http.post_file("/pipelines/upload_version", text, query)
        self._id(uploaded, "pipeline_version_id", "/pipelines/upload_version")
        return True

    def _id(self, answer: Mapping[str, Any], key: str, path: str) -> str:
        if not answer.get(key):
            raise self.http.strange(path, f"there is no {key} in it")
        return str(answer[key])

    def _experiment(self, name: str) -> str:
        query = {"filter": _equal("display_name", name), "namespace": self.namespace}
        experiments = self.http.get("/experiments", query).get("experiments") or []
        if experiments:
            return self._id(experiments[0], "experiment_id", "/experiments")
        created = self.http.post("/experiments", {"display_name": name, "namespace": self.namespace})
        return self._id(created, "experiment_id", "/experiments")

    def _pipeline(self, name: str) -> str:
        try:
            pipeline = self.http.get(f"/pipelines/names/{name}", {"namespace": self.namespace})
        except NotFound:
            return ""
        return self._id(pipeline, "pipeline_id", f"/pipelines/names/{name}")

    def _new_pipeline(self, name: str, description: str) -> str:
        body = {"name": name, "display_name": name, "description": description, "namespace": self.namespace}
        try:
            return self._id(self.http.post("/pipelines", body), "pipeline_id", "/pipelines")
        except StoreError:
            if pipeline := self._pipeline(name):  # another upload was faster
                return pipeline
            raise


def specification(
    text: str, *, caching: bool, secret: tuple[str, Mapping[str, str]] | None = None
) -> dict[str, Any]:
    """The documents of a compiled pipeline, as a run takes them.

    :param caching: False: no task takes a result that KFP has. True leaves it to each task.
    :param secret: see `Server.submit`. It is no parameter: KFP's pages show those, and its cache knows results by them.
    """
    pipeline, *platforms = yaml.load_all(text, LOADER)
    if not caching:
        for task in pipeline["root"]["dag"]["tasks"].values():
            task["cachingOptions"] = {}
    platform: dict[str, Any] = {}
    for document in platforms:
        platform |= document
    if secret is not None:
        _add_secret(platform, *secret)
    return {"pipeline_spec": pipeline, "platform_spec": platform}


def _add_secret(platform: Mapping[str, Any], name: str, keys: Mapping[str, str]) -> None:
    """Give every container a Secret's keys in its environment."""
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor in executors.values():
        executor.setdefault("secretAsEnv", []).append(
            {
                "secretName": name,
                "secretNameParameter": {"runtimeValue": {"constant": name}},
                "keyToEnv": [{"secretKey": key, "envVar": variable} for key, variable in keys.items()],
                "optional": True,
            }
        )


def _equal(key: str, value: str) -> str:
    """A filter of the API."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})
