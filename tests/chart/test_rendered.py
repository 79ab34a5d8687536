"""The objects that the chart renders, over all tables of values."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.phases import PHASES
from tests.chart import rendering
from tests.chart.rendering import (
    NAMESPACE,
    TABLE,
    containers,
    identity,
    of_kind,
    pod_templates,
    render,
    selects,
)

pytestmark = pytest.mark.usefixtures("helm")
SNAPSHOT = Path(__file__).parent / "snapshots" / "defaults.yaml"
every_table = pytest.mark.parametrize("table", TABLE)


def test_the_defaults_render_what_the_snapshot_has() -> None:
    """What an upgrade changes in a cluster is to be seen in a review: FORGE_SNAPSHOTS=write writes it anew."""
    objects = sorted(render(), key=identity)
    if os.environ.get("FORGE_SNAPSHOTS") == "write":
        SNAPSHOT.write_text(yaml.safe_dump_all(objects, sort_keys=True, width=110))
    assert objects == list(yaml.safe_load_all(SNAPSHOT.read_text()))


@every_table
def test_every_container_keeps_to_pod_security_restricted(table: str) -> None:
    for whose, pod in pod_templates(render(table)):
        spec = pod["spec"]
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(forbidden), f"{whose}: {forbidden}"
        assert spec["securityContext"]["runAsNonRoot"] is True, whose
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, whose
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, whose
            assert security["capabilities"] == {"drop": ["ALL"]}, whose
            assert security["readOnlyRootFilesystem"] is True, whose
            assert security["runAsNonRoot"] is True, whose
            assert (security.get("runAsUser") == 65532) is (table != "openshift"), whose


@every_table
def test_a_read_only_root_comes_with_a_writable_tmp_and_home(table: str) -> None:
    for whose, pod in pod_templates(render(table)):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in containers(pod):
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert volumes[mounts["/tmp"]]["emptyDir"]["sizeLimit"], whose
            assert {"name": "HOME", "value": "/tmp"} in container["env"], whose
            assert set(mounts.values()) <= set(volumes), whose


@every_table
def test_every_container_says_what_it_needs_and_where_its_end_is(table: str) -> None:
    for whose, pod in pod_templates(render(table)):
        for container in containers(pod):
            for bound in ("requests", "limits"):
                assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][bound]), whose


@every_table
def test_no_pod_has_a_token_for_the_kubernetes_api(table: str) -> None:
    accounts = {thing["metadata"]["name"] for thing in of_kind(render(table), "ServiceAccount")}
    for whose, pod in pod_templates(render(table)):
        assert pod["spec"]["automountServiceAccountToken"] is False, whose
        assert pod["spec"]["serviceAccountName"] in accounts, whose


@every_table
def test_every_image_has_a_registry_and_a_version(table: str) -> None:
    for whose, pod in pod_templates(render(table)):
        for container in containers(pod):
            assert re.fullmatch(r"[^/]+/.+(:v?[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})", container["image"]), (
                whose
            )
            assert not container["image"].endswith(":latest"), whose


def test_one_value_is_the_registry_of_all_images() -> None:
    for whose, pod in pod_templates(render("air-gapped")):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry-internal"}], whose
        for container in containers(pod):
            images = [container["image"], *(v["value"] for v in container["env"] if "_IMAGE_" in v["name"])]
            for image in images:
                assert image.startswith("registry.internal:5000/"), f"{whose}: {image}"


def test_a_digest_wins_over_the_tag_in_jobs_and_in_the_pipelines() -> None:
    (job,) = of_kind(render("gpu"), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert container["image"] == f"ghcr.io/acme/agent-forge/forge@sha256:{'1' * 64}"
    assert given["AGENT_FORGE_IMAGE_TRAINING"] == f"ghcr.io/acme/agent-forge/training@sha256:{'2' * 64}"
    assert given["AGENT_FORGE_IMAGE_BITNET"] == "ghcr.io/acme/agent-forge/bitnet:0.1.0"


def _lock(folder: Path, names: tuple[str, ...] = (*PHASES, "forge")) -> tuple[str, str]:
    """helm's arguments for a lock as `make images-push` writes it."""
    lock = {name: f"ghcr.io/acme/forge/{name}@sha256:{number:064x}" for number, name in enumerate(names)}
    path = folder / "images.lock"
    path.write_text(json.dumps(lock, indent=2))
    return "--set-file", f"images.lock={path}"


def _images(objects: tuple[dict[str, Any], ...]) -> list[str]:
    found = []
    for _, pod in pod_templates(objects):
        for container in containers(pod):
            found += [container["image"], *(v["value"] for v in container["env"] if "_IMAGE_" in v["name"])]
    return [image for image in found if "mlflow" not in image and "minio" not in image]


def test_the_lock_of_pushed_images_pins_jobs_and_pipelines(tmp_path: Path) -> None:
    images = _images(render("defaults", *_lock(tmp_path)))
    assert len(images) > len(PHASES)
    assert all(re.fullmatch(r"ghcr\.io/acme/forge/\w+@sha256:[0-9a-f]{64}", image) for image in images)


def test_a_mirror_has_the_same_digests_under_another_registry(tmp_path: Path) -> None:
    images = _images(render("air-gapped", *_lock(tmp_path)))
    assert all(
        image.startswith("registry.internal:5000/acme/forge/") and "@sha256:" in image for image in images
    )


def test_a_lock_without_an_image_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(rendering.Refused, match=r"images\.lock: it does not pin the image forge"):
        render("defaults", *_lock(tmp_path, PHASES))


@every_table
def test_every_selector_finds_the_pods_that_it_means(table: str) -> None:
    objects = render(table)
    pods = [pod["metadata"]["labels"] for _, pod in pod_templates(objects)]
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "Deployment":
            assert selects(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]), identity(
                thing
            )
            assert sum(selects(spec["selector"]["matchLabels"], labels) for labels in pods) == 1, identity(
                thing
            )
        elif thing["kind"] == "Service":
            found = [
                pod
                for _, pod in pod_templates(objects)
                if selects(spec["selector"], pod["metadata"]["labels"])
            ]
            (pod,) = found
            names = {port["name"] for container in containers(pod) for port in container["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= names, identity(thing)
        elif thing["kind"] == "PodDisruptionBudget":
            assert sum(selects(spec["selector"]["matchLabels"], labels) for labels in pods) == 1, identity(
                thing
            )
        elif thing["kind"] == "ServiceMonitor":
            services = of_kind(objects, "Service")
            found = [s for s in services if selects(spec["selector"]["matchLabels"], s["metadata"]["labels"])]
            (service,) = found
            assert {point["port"] for point in spec["endpoints"]} <= {
                p["name"] for p in service["spec"]["ports"]
            }
            assert all(point["path"].startswith("/") for point in spec["endpoints"]), identity(thing)


@every_table
def test_everything_has_the_labels_and_the_namespace(table: str) -> None:
    for thing in render(table):
        labels = thing["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "agent-forge", identity(thing)
        assert labels["app.kubernetes.io/managed-by"] == "Helm", identity(thing)
        cluster_wide = thing["kind"] in ("PriorityClass", "WorkloadPriorityClass")
        assert thing["metadata"].get("namespace") == (None if cluster_wide else NAMESPACE), identity(thing)


@every_table
def test_no_two_objects_have_the_same_name(table: str) -> None:
    names = [identity(thing) for thing in render(table)]
    assert len(names) == len(set(names))


@every_table
def test_no_secret_is_in_plain(table: str) -> None:
    for thing in render(table):
        if thing["kind"] == "ConfigMap":
            assert not [key for key in thing["data"] if re.search("KEY|SECRET|PASSWORD|TOKEN", key)]
    for whose, pod in pod_templates(render(table)):
        for container in containers(pod):
            for variable in container.get("env", []):
                if re.search("KEY|SECRET|PASSWORD|TOKEN", variable["name"]):
                    assert "secretKeyRef" in variable.get("valueFrom", {}), f"{whose}: {variable['name']}"


def _keys() -> dict[str, str]:
    rendering.render.cache_clear()
    (secret,) = of_kind(render("air-gapped"), "Secret")
    return dict(secret["data"])


def test_a_secret_is_generated_where_none_is_named_and_only_there() -> None:
    for table in TABLE:
        secrets = [secret["metadata"]["name"] for secret in of_kind(render(table), "Secret")]
        assert secrets == (["mlpipeline-minio-artifact"] if table == "air-gapped" else []), table
    first, second = _keys(), _keys()
    assert len(first["secretkey"]) >= 40
    assert first != second, "drawn anew for each release, and in no file"


@every_table
def test_roles_allow_what_phases_ask_for_and_nothing_else(table: str) -> None:
    allowed: dict[tuple[str, str], set[str]] = {}
    for role in of_kind(render(table), "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    allowed[group, resource] = set(rule["verbs"])
    expected: dict[tuple[str, str], set[str]] = {
        ("coordination.k8s.io", "leases"): {"create", "get", "update"}
    }
    if table != "external-s3":
        for job in (("trainer.kubeflow.org", "trainjobs"), ("kubeflow.org", "pytorchjobs")):
            expected[job] = {"create", "get", "list", "watch", "delete"}
        expected |= {("", "pods"): {"get", "list"}, ("", "pods/log"): {"get", "list"}}
    assert allowed == expected
    assert not of_kind(render(table), "ClusterRole") and not of_kind(render(table), "ClusterRoleBinding")
    for binding in of_kind(render(table), "RoleBinding"):
        (subject,) = binding["subjects"]
        assert (subject["kind"], subject["name"]) == ("ServiceAccount", "pipeline-runner")
        outside = binding["roleRef"]["kind"] == "ClusterRole"
        assert outside is (binding["roleRef"]["name"] == "system:openshift:scc:nonroot-v2")


@every_table
def test_the_pipelines_environment_is_one_config_map(table: str) -> None:
    (config,) = of_kind(render(table), "ConfigMap")
    assert config["metadata"]["name"] == "agent-forge"
    assert all(isinstance(value, str) and value for value in config["data"].values()), (
        "an empty value is no value"
    )


def test_services_made_here_are_what_the_pods_are_told() -> None:
    (config,) = of_kind(render("air-gapped"), "ConfigMap")
    services = {
        s["metadata"]["name"]: s["spec"]["ports"][0]["port"] for s in of_kind(render("air-gapped"), "Service")
    }
    for key, name in (
        ("MLFLOW_TRACKING_URI", "agent-forge-mlflow"),
        ("AWS_ENDPOINT_URL", "agent-forge-minio"),
    ):
        assert config["data"][key] == f"http://{name}.{NAMESPACE}.svc.cluster.local:{services[name]}"


def test_the_api_is_as_the_documents_have_it() -> None:
    (deployment,) = [
        d for d in of_kind(render("gpu"), "Deployment") if d["metadata"]["name"] == "agent-forge-api"
    ]
    (service,) = [s for s in of_kind(render("gpu"), "Service") if s["metadata"]["name"] == "agent-forge-api"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    resources: dict[str, dict[str, Any]] = container["resources"]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["template"]["metadata"]["labels"]["app"] == "agent-forge-api"
    assert [port["containerPort"] for port in container["ports"]] == [8083]
    assert (resources["requests"]["cpu"], resources["requests"]["memory"]) == ("2", "4Gi")
    assert (resources["limits"]["cpu"], resources["limits"]["memory"]) == ("4", "8Gi")
    assert (service["spec"]["type"], service["spec"]["ports"][0]["port"]) == ("LoadBalancer", 8083)


def test_what_comes_later_is_off() -> None:
    assert not [
        thing for thing in render() if thing["kind"] in ("Deployment", "Service", "CronJob", "ServiceMonitor")
    ]


def test_a_kept_volume_is_kept_by_helm_itself() -> None:
    for claim in of_kind(render("air-gapped"), "PersistentVolumeClaim"):
        kept = claim["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        assert kept is (claim["metadata"]["name"] == "agent-forge-minio")
