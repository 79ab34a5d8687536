"""A Kubernetes API on this machine, with what `forge` reads there: pods and their logs, ConfigMaps, Secrets, nodes."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.pipeline.kubeflow.kubeflow_server import RUN

ROOT = f"minio://mlpipeline/v2/artifacts/agent-forge/{RUN}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        server = self.server
        if server.status:
            return self.answer({"kind": "Status", "message": "no"}, server.status)
        if found := re.search(r"/pods/([^/]+)/log$", parts.path):
            lines = server.logs.get(found[1], "").splitlines(keepends=True)
            return self.send("".join(lines[-int(asked.get("tailLines", 0)) :]).encode(), "text/plain")
        if parts.path.endswith("/pods"):
            assert asked["labelSelector"] == f"pipeline/runid={RUN}"
            return self.answer({"kind": "PodList", "items": server.pods})
        if parts.path == "/api/v1/nodes":
            return self.answer({"kind": "NodeList", "items": server.nodes})
        if found := re.search(r"/(configmaps|secrets)/([^/]+)$", parts.path):
            kept = getattr(server, found[1]).get(found[2])
            if kept is not None:
                return self.answer({"metadata": {"name": found[2]}, "data": kept})
        return self.answer({"kind": "Status", "message": "not found"}, 404)

    def answer(self, content, status=200):
        self.send(json.dumps(content).encode(), "application/json", status)

    def send(self, body, kind, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class KubernetesServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pods, self.nodes, self.logs, self.configmaps, self.secrets = [], [], {}, {}, {}
        self.status = 0

    def kubeconfig(self, path):
        """A kubeconfig that leads here."""
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
            "users": [{"name": "u", "user": {}}],
        }
        path.write_text(json.dumps(config))
        return path


def pod(
    task,
    phase,
    *,
    attempt=None,
    title="",
    state=None,
    conditions=(),
    inputs=None,
    outputs=None,
    root=ROOT,
    **status,
):
    """A pod of the launcher, as Argo makes it, with the retries of DAGs that KFP 2.17's ConfigMap asks for."""
    number = "" if attempt is None else f"({attempt})"
    uris = {name: [f"{root}/{title or task}/c1/{name}"] for name in outputs or ()}
    told = {
        "inputs": {"artifacts": _artifacts(inputs or {})},
        "outputs": {
            "artifacts": _artifacts({**uris, "executor-logs": [f"{root}/{title or task}/c1/executor-logs"]})
        },
    }
    main = {
        "name": "main",
        "image": "x",
        "command": ["/kfp-launcher/launch", "--executor_input", json.dumps(told), "--"],
    }
    if title:
        main["env"] = [{"name": "FORGE_TASK", "value": title}]
    statuses = (
        []
        if state is None
        else [
            {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        ]
    )
    return {
        "metadata": {
            "name": f"agent-forge-x7k2p-system-container-impl-{task}{attempt or ''}",
            "namespace": "kubeflow",
            "annotations": {
                "workflows.argoproj.io/node-name": f"agent-forge-x7k2p(0).root(0).{task}(0).executor{number}"
            },
        },
        "spec": {"containers": [{"name": "wait", "image": "argoexec"}, main]},
        "status": {"phase": phase, "containerStatuses": statuses, "conditions": list(conditions), **status},
    }


def ended(code, reason="Error", message=None):
    """The state of a container that has ended."""
    times = {"startedAt": "2026-08-01T10:00:00Z", "finishedAt": "2026-08-01T10:05:00Z"}
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, **times}}


def _artifacts(addresses):
    return {
        name: {"artifacts": [{"name": name, "uri": uri} for uri in uris]} for name, uris in addresses.items()
    }
