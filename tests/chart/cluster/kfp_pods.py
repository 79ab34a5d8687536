"""The pods that Kubeflow Pipelines 2.17 makes of a compiled pipeline, as far as admission and scheduling see them.

Each task has a driver's pod and its own. The backend's part (which containers there are, their security contexts and
resources) is written down here after its sources; ours (image, resources, placement, environment, security) is read
from the compiled YAML, with the parameters' values in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.chart.rendering import Object

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
USER_CONTAINER = {key: value for key, value in RESTRICTED.items() if key != "runAsNonRoot"}
"""The backend does not say of a phase's container that it is no root's: that is the pipeline's to say."""
ARGO = {**RESTRICTED, "runAsUser": 65532}
"""`executor.securityContext` of the controller's ConfigMap in KFP's manifests."""
DRIVER = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
LAUNCHER = {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "256Mi"}}
SCRATCH = (
    "kfp-launcher",
    "gcs-scratch",
    "s3-scratch",
    "minio-scratch",
    "dot-local-scratch",
    "dot-cache-scratch",
)


def pods(
    compiled: str, namespace: str, values: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Object]]:
    """(task, pod) of every pod with a container: the driver's, and the task's own.

    :param compiled: the pipeline's YAML, both documents.
    :param values: parameters of the run; the others have their defaults.
    """
    pipeline, platform = yaml.safe_load_all(compiled)
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for task, label, parameters in _tasks(pipeline, values or {}):
        name = re.sub(r"[^a-z0-9-]", "-", task)
        yield (
            f"{task}-driver",
            _pod(f"{name}-driver", namespace, [_argo("main", DRIVER, RESTRICTED)], nonroot=True),
        )
        container = pipeline["deploymentSpec"]["executors"][label].get("container")
        if container:
            yield task, _task_pod(name, namespace, container, settings.get(label, {}), parameters)


def _tasks(pipeline: Object, values: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(task, executor, its parameters) of every task, those of nested pipelines too."""
    components = pipeline["components"]

    def walk(dag: Object, given: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for name, task in dag["tasks"].items():
            parameters = {**given, **_parameters(task, given)}
            component = components[task["componentRef"]["name"]]
            if "dag" in component:
                yield from walk(component["dag"], parameters)
            else:
                yield name, component["executorLabel"], parameters

    defaults = {
        name: given.get("defaultValue")
        for name, given in pipeline["root"].get("inputDefinitions", {}).get("parameters", {}).items()
    }
    yield from walk(pipeline["root"]["dag"], {**defaults, **values})


def _parameters(task: Object, given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in source:
            found[name] = given.get(source["componentInputParameter"])
        elif "runtimeValue" in source:
            found[name] = source["runtimeValue"]["constant"]
    return found


def _task_pod(
    name: str, namespace: str, container: Object, settings: Object, parameters: dict[str, Any]
) -> Object:
    def value(source: Object) -> Any:
        if "componentInputParameter" in source:
            return parameters[source["componentInputParameter"]]
        return source["runtimeValue"]["constant"]

    main = _argo("main", _resources(container.get("resources", {}), parameters), USER_CONTAINER)
    main["image"] = _resolved(container["image"], parameters)
    main["imagePullPolicy"] = settings.get("imagePullPolicy", "IfNotPresent")
    main["securityContext"] = {**USER_CONTAINER, **settings.get("securityContext", {})}
    for key in ("runAsUser", "runAsGroup"):  # protobuf writes 64 bits as text
        if key in main["securityContext"]:
            main["securityContext"][key] = int(main["securityContext"][key])
    main["env"] = _environment(container, settings, value)
    main["volumeMounts"] += [
        {"name": m["volumeName"], "mountPath": m["mountPath"]} for m in settings.get("emptyDirMounts", [])
    ]
    copied = _argo("kfp-launcher", LAUNCHER, RESTRICTED)
    pod = _pod(name, namespace, [main, _argo("wait", {}, ARGO)], first=[_argo("init", {}, ARGO), copied])
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["labels"] |= settings.get("podMetadata", {}).get("labels", {})
    metadata["annotations"] = settings.get("podMetadata", {}).get("annotations", {})
    spec["volumes"] += [
        {"name": m["volumeName"], "emptyDir": {k: m[k] for k in ("medium", "sizeLimit") if m.get(k)}}
        for m in settings.get("emptyDirMounts", [])
    ]
    spec["nodeSelector"], spec["tolerations"] = {}, []
    selector = settings.get("nodeSelector", {})
    spec["nodeSelector"] |= selector.get("labels", {})
    if "nodeSelectorJson" in selector:
        spec["nodeSelector"] |= value(selector["nodeSelectorJson"]) or {}
    for toleration in settings.get("tolerations", []):
        found = value(toleration["tolerationJson"]) if "tolerationJson" in toleration else toleration
        spec["tolerations"] += found if isinstance(found, list) else [found] if found else []
    if preferred := [_preference(term) for term in settings.get("nodeAffinity", [])]:
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    secrets = [
        s.get("secretName") or value(s["secretNameParameter"]) for s in settings.get("imagePullSecret", [])
    ]
    spec["imagePullSecrets"] = [{"name": secret} for secret in secrets if secret]
    if "activeDeadlineSeconds" in settings:
        spec["activeDeadlineSeconds"] = int(settings["activeDeadlineSeconds"])
    return pod


def _preference(term: Object) -> Object:
    """A node affinity with a weight; the pipelines have no other."""
    return {"weight": term["weight"], "preference": {"matchExpressions": term["matchExpressions"]}}


def _environment(container: Object, settings: Object, value: Any) -> list[Object]:
    env = [{"name": e["name"], "value": e.get("value", "")} for e in container.get("env", [])]
    for kind, key, reference in (
        ("configMap", "configMapKey", "configMapKeyRef"),
        ("secret", "secretKey", "secretKeyRef"),
    ):
        for source in settings.get(f"{kind}AsEnv", []):
            name = source.get(f"{kind}Name") or value(source[f"{kind}NameParameter"])
            env += [
                {
                    "name": pair["envVar"],
                    "valueFrom": {
                        reference: {"name": name, "key": pair[key], "optional": source.get("optional", False)}
                    },
                }
                for pair in source["keyToEnv"]
            ]
    for source in settings.get("fieldPathAsEnv", []):
        env.append({"name": source["name"], "valueFrom": {"fieldRef": {"fieldPath": source["fieldPath"]}}})
    return env


def _resources(given: Object, parameters: Mapping[str, Any]) -> Object:
    found: Object = {"requests": {}, "limits": {}}
    for resource in ("cpu", "memory"):
        for bound in ("request", "limit"):
            if asked := given.get(f"resource{resource.title()}{bound.title()}"):
                found[f"{bound}s"][resource] = _resolved(asked, parameters)
    if "accelerator" in given:
        kind = _resolved(given["accelerator"]["resourceType"], parameters)
        found["limits"][kind] = _resolved(given["accelerator"]["resourceCount"], parameters)
    return found


def _resolved(text: str, parameters: Mapping[str, Any]) -> str:
    """Placeholders replaced by the parameters that they name."""
    found = re.sub(
        r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}", lambda match: str(parameters[match[1]]), text
    )
    return found if found == text else _resolved(found, parameters)


def _argo(name: str, resources: Object, security: Object) -> Object:
    mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in SCRATCH]
    return {
        "name": name, "image": "ghcr.io/kubeflow/kfp:2.17.0", "resources": json.loads(json.dumps(resources)),
        "securityContext": security, "volumeMounts": mounts,
    }  # fmt: skip


def _pod(
    name: str,
    namespace: str,
    containers: list[Object],
    *,
    first: list[Object] | None = None,
    nonroot: bool = False,
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"pipelines.kubeflow.server.org/v2_component": "true", "pipeline/runid": "0b2f"},
        },
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "pipeline-runner",
            "securityContext": {
                "seccompProfile": {"type": "RuntimeDefault"},
                **({"runAsNonRoot": True} if nonroot else {}),
            },
            "initContainers": first or [],
            "containers": containers,
            "volumes": [{"name": volume, "emptyDir": {}} for volume in SCRATCH],
        },
    }
