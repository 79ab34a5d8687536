"""Cluster settings are read strictly: what is misspelt is refused, and not left to Kubernetes."""

import pytest
import yaml

from components.shared.runtime.errors import ConfigError
from pipelines import cluster
from pipelines.phases import PHASES, between


def changed(tmp_path, monkeypatch, **changes):
    content = yaml.safe_load((cluster.FOLDER / "default.yaml").read_text()) | changes
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(cluster, "FOLDER", tmp_path)
    return cluster.load("mine")


def pod(cpu):
    amount = {"cpu": cpu, "memory": "1Gi"}
    return {"requests": amount, "limits": amount, "scratch": "1Gi"}


@pytest.mark.parametrize("name", sorted(path.stem for path in cluster.FOLDER.glob("*.yaml")))
def test_every_file_of_the_project_is_right(name):
    assert set(cluster.load(name).timeout_seconds) == {*PHASES, cluster.UNSCHEDULED}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shmm": "1Gi"}, "shmm"),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy"),
        ({"pods": {"gpu": pod("four"), "cpu": pod("1")}}, "pods.gpu.requests.cpu"),
        ({"retries": {"count": -1, "backoff_seconds": 1, "factor": 2}}, "retries.count"),
        ({"retries": {"count": 1, "backoff_seconds": 1, "factor": 2, "max_seconds": 9}}, "max_seconds"),
        ({"timeout_seconds": {"cognate": 60}}, "evomerge"),
        ({"gpu_phases": ["cognates"]}, "cognates"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, monkeypatch, changes, named):
    with pytest.raises(ConfigError, match=named):
        changed(tmp_path, monkeypatch, **changes)


def test_an_unknown_cluster_names_those_that_there_are():
    with pytest.raises(ConfigError, match="default, gpu, kind"):
        cluster.load("mine")


def test_a_range_of_phases_holds_both_ends():
    assert between("bitnet", "baking") == ("bitnet", "training", "baking")
    assert between() == PHASES


def test_a_pod_on_a_small_cluster_reserves_what_a_phase_of_the_tiny_profile_takes():
    """Measured there: .93 to 1.29 GB a phase. What reserves less is the first to be evicted."""
    for pod in cluster.load("kind").pods.values():
        assert pod.requests.memory == "2Gi" and pod.limits.memory == "4Gi"
