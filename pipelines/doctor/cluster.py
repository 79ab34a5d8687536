"""What `forge doctor` looks at in a cluster: the Kubeflow API, nodes, what the namespace needs, and Argo's retries."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from components.shared.runtime.errors import ForgeError

from ..kubeflow.http import Access, ServerLost
from ..kubeflow.server import Server
from ..kubeflow.state.pods import Kubernetes, kubeconfig, problem
from .finding import Finding

CONTROLLER = "workflow-controller-configmap"
CONFIG_MAP, SECRET = "agent-forge", "mlpipeline-minio-artifact"
WANTED = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_REGION")
KEYS = ("accesskey", "secretkey")
SECONDS = (5.0, 5.0)
PORT_FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"


def examine(access: Access) -> Iterator[Finding]:
    """All findings, one by one, as they are made."""
    yield kubeflow(access)
    try:
        cluster = Kubernetes.connect(access.namespace)
        if cluster is None:
            yield Finding("ok", "Kubernetes", "no kubeconfig: only needed for a cluster")
            return
        yield nodes(cluster)
    except Exception as error:  # whatever a cluster, its proxy or its certificates answer
        yield Finding(
            "warn", "Kubernetes", f"{kubeconfig()}: {problem(error)}", "kubectl get nodes shows more"
        )
        return
    for look in (settings, credentials, retries):
        try:
            yield look(cluster)
        except Exception as error:  # as above: mostly that one may not read it
            yield Finding(
                "warn",
                look.__name__,
                problem(error),
                "ask for the right to read ConfigMaps and Secrets there",
            )


def kubeflow(access: Access) -> Finding:
    """The Kubeflow Pipelines API, where one is named: that it is that API, lets us in, and which version it is."""
    if not access.host:
        return Finding("ok", "Kubeflow", "no host named: --host or KFP_HOST, only needed to submit")
    try:
        server = Server(access, seconds=SECONDS)
        health = server.http.get("/healthz")
        if not health:
            raise server.http.strange("/healthz", "an empty answer")
        server.http.get("/runs", {"page_size": 1, "namespace": access.namespace})
    except ForgeError as error:
        fix = PORT_FORWARD if isinstance(error, ServerLost) else error.fix
        return Finding("fail", "Kubeflow", f"{access.host}: {error.what}: {error.why}", fix)
    known = (health.get(key) for key in ("tag_name", "apiServerTagName", "commit_sha", "apiServerCommitHash"))
    version = next(filter(None, known), "its version unknown")
    users = ", several users" if health.get("multi_user") else ""
    return Finding("ok", "Kubeflow", f"{server.host}: API v2beta1, {version}{users}")


def nodes(cluster: Kubernetes) -> Finding:
    """GPUs that the cluster can give to pods."""
    all_nodes = cluster.nodes()
    gpus = sum(int((node.status.allocatable or {}).get("nvidia.com/gpu", 0)) for node in all_nodes)
    text = f"{len(all_nodes)} nodes, {gpus} allocatable GPUs"
    if not gpus:
        fix = "without GPUs submit with --cluster kind, or install the device plugin"
        return Finding("warn", "Kubernetes", text, fix)
    return Finding("ok", "Kubernetes", text)


def settings(cluster: Kubernetes) -> Finding:
    """The ConfigMap that leads the pods to MLflow and the object store."""
    config_map = cluster.config_map(CONFIG_MAP)
    missing = [key for key in WANTED if not (config_map or {}).get(key)]
    if not missing:
        return Finding("ok", "settings", f"ConfigMap {CONFIG_MAP} in {cluster.namespace}")
    what = f"ConfigMap {CONFIG_MAP} in {cluster.namespace} " + (
        "is not there" if config_map is None else f"lacks {', '.join(missing)}"
    )
    fix = (
        "without AWS_ENDPOINT_URL a phase can neither keep its checkpoints in the cluster's store nor show its progress;"
        "\nhelm upgrade --install agent-forge charts/agent-forge --set-file images.lock=images/images.lock makes it"
    )
    return Finding("warn", "settings", what, fix)


def credentials(cluster: Kubernetes) -> Finding:
    """The Secret with the keys of the object store."""
    secret = cluster.secret(SECRET)
    missing = [key for key in KEYS if key not in (secret or {})]
    if not missing:
        return Finding("ok", "keys", f"Secret {SECRET} in {cluster.namespace}")
    what = f"Secret {SECRET} in {cluster.namespace} " + (
        "is not there" if secret is None else f"lacks {', '.join(missing)}"
    )
    return Finding(
        "warn", "keys", what, "name another with -s s3_secret=NAME, or let the pods have rights of their own"
    )


def retries(cluster: Kubernetes) -> Finding:
    """What Argo does with a phase that fails.

    KFP 2.17's own manifests set `retryPolicy: OnError` for every template. It is merged into the retries of a task,
    for which a compiled pipeline cannot name a policy: a container that ends with another exit code than 0 is not
    started again, and a deleted pod only where Argo misses its exit code.
    """
    config_map = cluster.config_map(CONTROLLER)
    if config_map is None:
        what = f"no ConfigMap {CONTROLLER} in {cluster.namespace}: Argo's retries are not seen from here"
        return Finding("ok", "retries", what)
    policy, where = policy_of(config_map)
    if policy in ("", "Always", "OnTransientError"):
        text = f"retryPolicy {policy or 'is not set'} in {CONTROLLER}: a phase that fails is started again"
        if policy == "OnTransientError":
            text = f"retryPolicy {policy} in {CONTROLLER}: only what Argo holds for passing is started again"
        return Finding("ok", "retries", text)
    return Finding(
        "warn",
        "retries",
        f"{CONTROLLER} has {where}.retryPolicy {policy} (KFP 2.17's default): a pod that ends with an error is not "
        "started again, whatever `retries` says. Phases try again inside their pod what a store or a tracker refused; "
        "an evicted or killed pod may end the run (forge retry goes on)",
        f"let Argo start them again:\n{patch(config_map, cluster.namespace)}",
    )


def policy_of(data: dict[str, str]) -> tuple[str, str]:
    """The default retry policy of the controller's ConfigMap, and the path at which it stands; "" for none.

    The settings are keys of the ConfigMap, or all of them one text under the key `config`.
    """
    whole = yaml.safe_load(data.get("config") or "{}") or {}
    defaults = yaml.safe_load(data.get("workflowDefaults") or "{}") or whole.get("workflowDefaults") or {}
    spec: dict[str, Any] = defaults.get("spec") or {}
    for path, holder in (
        ("workflowDefaults.spec.templateDefaults.retryStrategy", (spec.get("templateDefaults") or {})),
        ("workflowDefaults.spec.retryStrategy", spec),
    ):
        if policy := (holder.get("retryStrategy") or {}).get("retryPolicy"):
            return str(policy), path
    return "", ""


def patch(data: dict[str, str], namespace: str) -> str:
    """The kubectl command that makes the policy Always, and leaves the rest of the ConfigMap as it is."""
    key = "workflowDefaults" if "workflowDefaults" in data else "config"
    changed = (
        data[key]
        .replace("retryPolicy: OnError", "retryPolicy: Always")
        .replace("retryPolicy: OnFailure", "retryPolicy: Always")
    )
    content = json.dumps({"data": {key: changed}})
    return f"kubectl patch configmap {CONTROLLER} -n {namespace} --type merge -p {shlex.quote(content)}"
