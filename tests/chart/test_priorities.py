"""Who goes first: PriorityClasses for the chart's own pods, Kueue's classes for those of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import TABLE, Refused, of_kind, pod_templates, render

pytestmark = pytest.mark.usefixtures("helm")
ALL = (
    "--set",
    "priorityClasses.enabled=true,mlflow.enabled=true,minio.enabled=true,objectStore.existingSecret=",
    "--set",
    "control.enabled=true,serve.enabled=true,cleaning.enabled=true,cleaning.address=s3://b/p",
)
KUEUE = ("--set", "kueue.workloadPriorityClasses.agent-forge=1000,kueue.workloadPriorityClasses.late=-5")


def test_every_pod_of_the_chart_has_the_class_of_its_kind() -> None:
    objects = render("defaults", *ALL)
    made = {thing["metadata"]["name"] for thing in of_kind(objects, "PriorityClass")}
    given = {
        whose.split("/")[0]: set() for whose, _ in pod_templates(objects)
    }  # kind of the object → the classes of its pods
    for whose, pod in pod_templates(objects):
        given[whose.split("/")[0]].add(pod["spec"]["priorityClassName"])
    assert made == {"agent-forge-services", "agent-forge-jobs"}
    assert given == {
        "Deployment": {"agent-forge-services"},
        "Job": {"agent-forge-jobs"},
        "CronJob": {"agent-forge-jobs"},
        "Pod": {"agent-forge-jobs"},
    }


@pytest.mark.parametrize("table", TABLE)
def test_a_pod_names_a_priority_class_that_the_chart_makes_or_none(table: str) -> None:
    made = {thing["metadata"]["name"] for thing in of_kind(render(table), "PriorityClass")}
    named = {pod["spec"].get("priorityClassName") for _, pod in pod_templates(render(table))}
    assert named <= (made or {None})


@pytest.mark.parametrize("table", TABLE)
def test_kueues_classes_are_off_until_asked_for(table: str) -> None:
    assert not of_kind(render(table), "WorkloadPriorityClass")


def test_kueues_classes_are_those_that_are_named() -> None:
    classes = of_kind(render("defaults", *KUEUE), "WorkloadPriorityClass")
    assert {thing["metadata"]["name"]: thing["value"] for thing in classes} == {
        "agent-forge": 1000,
        "late": -5,
    }
    for thing in classes:
        assert thing["apiVersion"] == "kueue.x-k8s.io/v1beta1"
        assert set(thing) == {"apiVersion", "kind", "metadata", "value", "description"}
        assert "namespace" not in thing["metadata"], "they belong to the whole cluster"
        assert thing["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_a_large_value_from_a_file_stays_an_integer(tmp_path: Path) -> None:
    """helm reads numbers of files as floats, and would write 1e+09."""
    given = {
        "kueue": {"workloadPriorityClasses": {"first": 1_000_000_000}},
        "priorityClasses": {"enabled": True, "jobs": {"value": 1_000_000_000}},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
    objects = render("defaults", "--values", str(tmp_path / "values.yaml"))
    (queue,) = of_kind(objects, "WorkloadPriorityClass")
    values = {thing["metadata"]["name"]: thing["value"] for thing in of_kind(objects, "PriorityClass")}
    assert (queue["value"], values["agent-forge-jobs"]) == (1_000_000_000, 1_000_000_000)
    assert isinstance(queue["value"], int) and isinstance(values["agent-forge-jobs"], int)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("agent-forge=high", "workloadPriorityClasses/agent-forge"), ("Agent_Forge=1", "Agent_Forge")],
)
def test_a_class_that_kubernetes_would_refuse_is_refused(wrong: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        render("defaults", "--set", f"kueue.workloadPriorityClasses.{wrong}")


def test_the_example_of_the_documents_names_a_class_that_its_helm_line_makes() -> None:
    documents = Path(__file__).resolve().parents[2] / "docs"
    assert "queue: { name: team-a, priority: agent-forge }" in (documents / "operations.md").read_text()
    assert "--set kueue.workloadPriorityClasses.agent-forge=1000" in (documents / "kubeflow.md").read_text()
