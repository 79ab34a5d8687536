"""The chart's NetworkPolicies: no pod of ours without one, and no way in or out that is not listed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

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
every_table = pytest.mark.parametrize("table", TABLE)
PIPELINE_POD = {
    "pipelines.kubeflow.server.org/v2_component": "true",
    "pipeline/runid": "0b2f",
    "workflows.argoproj.io/workflow": "w",
}
"""Labels that Kubeflow Pipelines puts on the pods of a run: the root driver's, the drivers' and the phases'."""


def policies_of(table: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """The policies that select a pod."""
    found = of_kind(render(table), "NetworkPolicy")
    return [p for p in found if selects(p["spec"]["podSelector"].get("matchLabels"), labels)]


def egress(table: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """All that a pod may reach."""
    return [rule for policy in policies_of(table, labels) for rule in policy["spec"].get("egress", [])]


def reaches(rules: list[dict[str, Any]], port: int, **peer: Any) -> bool:
    """Whether a rule lets traffic to such a peer on that port."""
    for rule in rules:
        ports = {each["port"] for each in rule.get("ports", [])}
        if port in ports and any(
            all(to.get(key) == value for key, value in peer.items()) for to in rule["to"]
        ):
            return True
    return False


def namespace(name: str) -> dict[str, Any]:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}


@every_table
def test_every_pod_of_ours_starts_from_nothing_in_both_directions(table: str) -> None:
    pods = [(whose, pod["metadata"]["labels"]) for whose, pod in pod_templates(render(table))]
    for whose, labels in [*pods, ("the pipeline", PIPELINE_POD)]:
        denying = [
            policy
            for policy in policies_of(table, labels)
            if sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
            and not policy["spec"].get("egress")
            and not policy["spec"].get("ingress")
        ]
        assert denying, f"{table}: nothing denies {whose}"


@every_table
def test_the_pods_of_others_are_left_alone_unless_all_are_denied(table: str) -> None:
    """Kubeflow Pipelines' own services live in the same namespace."""
    assert bool(policies_of(table, {"app": "ml-pipeline"})) is (table == "gpu")


@every_table
def test_every_rule_names_ports_and_peers(table: str) -> None:
    for policy in of_kind(render(table), "NetworkPolicy"):
        for rule in policy["spec"].get("egress") or []:
            assert rule["to"] and rule["ports"], identity(policy)
        for rule in policy["spec"].get("ingress") or []:
            assert rule["ports"], identity(policy)


@every_table
def test_nothing_may_open_a_connection_to_a_pod_of_the_pipeline(table: str) -> None:
    assert not [
        rule for policy in policies_of(table, PIPELINE_POD) for rule in policy["spec"].get("ingress") or []
    ]


@every_table
def test_the_pipeline_reaches_names_the_api_server_and_kubeflow_pipelines(table: str) -> None:
    rules = egress(table, PIPELINE_POD)
    dns = ("openshift-dns", 5353) if table == "openshift" else ("kube-system", 53)
    assert reaches(rules, dns[1], namespaceSelector=namespace(dns[0]))
    assert any(
        "ipBlock" in to and {p["port"] for p in rule["ports"]} & {443, 6443}
        for rule in rules
        for to in rule["to"]
    )
    for port in (8888, 8887, 8080):
        assert reaches(rules, port, namespaceSelector=namespace("kubeflow"))


@every_table
def test_the_pipeline_reaches_what_its_environment_names(table: str) -> None:
    """An address in the ConfigMap that no policy lets through would be a pod that waits for its time-out."""
    rules = egress(table, PIPELINE_POD)
    (config,) = of_kind(render(table), "ConfigMap")
    for key in ("AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI"):
        address = config["data"].get(key)
        if key == "AWS_ENDPOINT_URL" and not address:  # AWS itself
            assert reaches(rules, 443, ipBlock={"cidr": "0.0.0.0/0"})
        elif address and (host := str(urlsplit(address).hostname)).endswith(
            f".{NAMESPACE}.svc.cluster.local"
        ):
            service = host.split(".")[0]
            labels = {
                "seaweedfs": {"app": "seaweedfs"},
                **{s["metadata"]["name"]: s["spec"]["selector"] for s in of_kind(render(table), "Service")},
            }[service]
            port = 8333 if service == "seaweedfs" else urlsplit(address).port
            assert port and reaches(rules, port, podSelector={"matchLabels": labels}), address
        elif address:
            assert reaches(rules, urlsplit(address).port or 443, ipBlock={"cidr": "203.0.113.7/32"}), address


@every_table
def test_what_serves_is_open_on_its_port_only(table: str) -> None:
    for service in of_kind(render(table), "Service"):
        (pod,) = [
            p
            for _, p in pod_templates(render(table))
            if selects(service["spec"]["selector"], p["metadata"]["labels"])
        ]
        open_ports = {
            port["port"]
            for policy in policies_of(table, pod["metadata"]["labels"])
            for rule in policy["spec"].get("ingress") or []
            for port in rule["ports"]
        }
        assert open_ports == {port["containerPort"] for each in containers(pod) for port in each["ports"]}, (
            identity(service)
        )


@every_table
def test_jobs_reach_kubeflow_pipelines_and_not_the_api_server(table: str) -> None:
    (job,) = [pod for whose, pod in pod_templates(render(table)) if whose == "Job/agent-forge-upload"]
    rules = egress(table, job["metadata"]["labels"])
    assert reaches(rules, 8888, namespaceSelector=namespace("kubeflow"))
    assert not reaches(rules, 6443)


def test_a_site_can_let_its_pods_reach_more() -> None:
    assert reaches(egress("external-s3", PIPELINE_POD), 443, ipBlock={"cidr": "203.0.113.8/32"})


def test_there_are_no_policies_where_they_are_not_wanted() -> None:
    assert not of_kind(render("defaults", "--set", "networkPolicy.enabled=false"), "NetworkPolicy")
