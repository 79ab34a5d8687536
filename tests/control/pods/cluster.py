"""A Kubeflow cluster on this machine that keeps its word: what is submitted begins, what is ended ends when its pods have,
what has failed can be tried again, and a pod that is lost is started again.

Nothing happens by itself: the test says when a pod begins, ends or is lost; the servers answer as KFP and Kubernetes do.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from pathlib import Path
from typing import Any

from components.shared.runtime.tracking import chunks
from tests.pipeline.kubeflow import kubeflow_server, kubernetes_server
from tests.pipeline.kubeflow.kubeflow_server import CHAIN, KubeflowServer, detail
from tests.pipeline.kubeflow.kubernetes_server import KubernetesServer, ended, pod

BEGAN = "2026-08-01T10:00:00Z"
RUNNING = {"running": {"startedAt": BEGAN}}
TITLES = {
    "cognate-trunk": "cognate-trunk", "cognate": "cognate-variant-1", "cognate-2": "cognate-variant-2",
    "evomerge": "evomerge", "quietstar": "quietstar",
}  # fmt: skip


class Task:
    """A task: its attempts, each a pod."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.state, self.attempt = "PENDING", -1
        self.pods: dict[int, dict[str, Any]] = {}


class Run:
    """A run as KFP has it."""

    def __init__(self, name: str, spec: Any, secrets: list[str]) -> None:
        self.id, self.name, self.spec, self.secrets = str(uuid.uuid4()), name, spec, secrets
        self.state, self.history = "PENDING", ["PENDING"]
        self.tasks = {one: Task(one, title) for one, title in TITLES.items()}

    def become(self, state: str) -> None:
        if self.state != state:
            self.state = state
            self.history.append(state)

    def to_json(self) -> dict[str, Any]:
        states = {"CANCELED": "FAILED"}
        details = [
            detail(task.name, states.get(task.state, task.state))
            for task in self.tasks.values()
            if task.state != "PENDING"
        ]
        done = self.state in ("SUCCEEDED", "FAILED")
        return {
            "run_id": self.id, "display_name": self.name, "state": self.state, "created_at": BEGAN,
            "finished_at": "2026-08-01T11:00:00Z" if done else "1970-01-01T00:00:00Z",
            "pipeline_spec": self.spec, "run_details": {"task_details": details},
            "state_history": [{"update_time": BEGAN, "state": state} for state in self.history],
        }  # fmt: skip


class KubeflowHandler(kubeflow_server.Handler):
    def respond(self, path: str, method: str, asked: Any, body: Any) -> None:
        cluster: Cluster = self.server.cluster  # type: ignore[attr-defined]
        if path == "/apis/v2beta1/runs" and method == "POST":
            return self.answer({"run_id": cluster.submitted(body).id})
        if path == "/apis/v2beta1/runs":
            name = json.loads(asked["filter"])["predicates"][0]["stringValue"]
            found = [run.to_json() for run in cluster.runs.values() if run.name == name]
            return self.answer({"runs": found} if found else {})
        match = re.fullmatch(r"/apis/v2beta1/runs/([^/:]+)(:terminate|:retry)?", path)
        if match is None:
            return super().respond(path, method, asked, body)
        run = cluster.runs.get(match[1])
        if run is None:
            return self.answer({"code": 5, "message": f"Run {match[1]} not found"}, status=404)
        if match[2]:
            refused = cluster.terminate(run) if match[2] == ":terminate" else cluster.retry(run)
            return self.answer(
                {"code": 9, "message": refused} if refused else {}, status=400 if refused else 200
            )
        return self.answer(run.to_json())


class KubernetesHandler(kubernetes_server.Handler):
    def do_GET(self) -> None:
        cluster: Cluster = self.server.cluster  # type: ignore[attr-defined]
        if match := re.search(r"/pods\?.*labelSelector=pipeline%2Frunid%3D([0-9a-f-]+)", self.path):
            return self.answer({"kind": "PodList", "items": cluster.pods_of(match[1])})
        return super().do_GET()

    def do_POST(self) -> None:
        _, body = self._body()
        secrets = self.server.secrets  # type: ignore[attr-defined]
        if body["metadata"]["name"] in secrets and self.command == "POST":
            return self.answer({"kind": "Status", "message": "already exists"}, 409)
        secrets[body["metadata"]["name"]] = body["stringData"]
        return self.answer(body)

    do_PUT = do_POST

    def do_DELETE(self) -> None:
        name, _ = self._body()
        cluster: Cluster = self.server.cluster  # type: ignore[attr-defined]
        if "/secrets/" in self.path:
            there = self.server.secrets.pop(name, None) is not None  # type: ignore[attr-defined]
        else:
            there = cluster.delete_pod(name)
        return self.answer({"kind": "Status"}, 200 if there else 404)

    def _body(self) -> tuple[str, Any]:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self.path.partition("?")[0].rpartition("/")[2], json.loads(text or b"{}")


class Cluster:
    """The two servers, and the object store, which is a folder.

    :param store: where KFP keeps artifacts.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.runs: dict[str, Run] = {}
        self.kubeflow, self.kubernetes = KubeflowServer(), KubernetesServer()
        self.kubeflow.RequestHandlerClass, self.kubernetes.RequestHandlerClass = (
            KubeflowHandler,
            KubernetesHandler,
        )
        self.kubeflow.cluster = self.kubernetes.cluster = self

    # -- what the servers are asked

    def submitted(self, body: Any) -> Run:
        platform = body["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"][
            "executors"
        ]
        names = {
            one["secretNameParameter"]["runtimeValue"]["constant"]
            for executor in platform.values()
            for one in executor.get("secretAsEnv", [])
            if "runtimeValue" in one["secretNameParameter"]
        }
        return self.add(body["display_name"], sorted(names))

    def add(self, name: str, secrets: list[str] | None = None) -> Run:
        run = Run(name, CHAIN, secrets or [])
        self.runs[run.id] = run
        run.become("RUNNING")
        return run

    def terminate(self, run: Run) -> str:
        if run.state not in ("PENDING", "RUNNING"):
            return "" if run.state == "CANCELING" else f"it is {run.state}"
        run.become("CANCELING")
        return ""

    def retry(self, run: Run) -> str:
        if run.state != "FAILED":
            return "only failed runs can be retried"
        for task in run.tasks.values():
            if task.state in ("FAILED", "CANCELED"):
                task.state = "PENDING"
        run.become("RUNNING")
        return ""

    def pods_of(self, run: str) -> list[Any]:
        return [one for task in self.runs[run].tasks.values() for one in task.pods.values()]

    def delete_pod(self, name: str) -> bool:
        for run in self.runs.values():
            for task in run.tasks.values():
                for attempt, one in list(task.pods.items()):
                    if one["metadata"]["name"] == name:
                        del task.pods[attempt]
                        self._settle(run)
                        return True
        return False

    # -- what happens

    def begin(self, run: Run, name: str) -> None:
        """A pod of a task begins."""
        task = run.tasks[name]
        task.attempt += 1
        task.state = "RUNNING"
        task.pods[task.attempt] = pod(name, "Running", attempt=task.attempt, title=task.title, state=RUNNING)

    def tell(self, run: Run, name: str, number: int, *lines: dict[str, Any]) -> None:
        """A pod leaves a chunk in the store of its run, and says there how far it is."""
        task = run.tasks[name]
        process = f"uid-{name}-{task.attempt}"
        progress = self.root(run) / "progress" / f"{task.title}.json"
        progress.parent.mkdir(parents=True, exist_ok=True)
        progress.write_text(json.dumps({"attempt": task.attempt + 1, "process": process}))
        key = chunks.key(task.title, process, number)
        path = self.root(run) / chunks.FOLDER / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chunks.encode([{"attempt": task.attempt + 1, **line} for line in lines]))

    def end(self, run: Run, name: str, code: int = 0, *, again: bool = False) -> None:
        """A pod ends. KFP's task with it, unless Argo starts it `again`."""
        task = run.tasks[name]
        phase = "Failed" if code else "Succeeded"
        state = ended(code, "Error" if code else "Completed")
        task.pods[task.attempt] = pod(name, phase, attempt=task.attempt, title=task.title, state=state)
        if not again:
            task.state = "FAILED" if code else "SUCCEEDED"
        self._settle(run)

    def lose(self, run: Run, name: str) -> None:
        """A pod is gone with its node; Argo will start another."""
        task = run.tasks[name]
        del task.pods[task.attempt]
        self._settle(run)

    def executor_logs(self, run: Run, name: str, attempt: int, text: str) -> None:
        """KFP's launcher uploads the log of an attempt that has ended."""
        path = (
            self.root(run)
            / run.tasks[name].title
            / "uuid-1"
            / f"executor-logs{f'-{attempt}' if attempt else ''}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def root(self, run: Run) -> Path:
        return self.store / "agent-forge" / run.id

    def _settle(self, run: Run) -> None:
        """What follows for the run."""
        living = any(one["status"]["phase"] == "Running" for one in self.pods_of(run.id))
        states = {task.state for task in run.tasks.values()}
        if run.state == "CANCELING" and not living:
            for task in run.tasks.values():
                task.state = "CANCELED" if task.state == "RUNNING" else task.state
            run.become("FAILED")  # as KFP calls it
        elif states == {"SUCCEEDED"}:
            run.become("SUCCEEDED")
        elif "FAILED" in states and not living and run.state == "RUNNING":
            run.become("FAILED")

    def secret(self, name: str) -> dict[str, str] | None:
        """What is in a Secret."""
        content = self.kubernetes.secrets.get(name)
        return None if content is None else {key: _plain(text) for key, text in content.items()}


def _plain(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return text
