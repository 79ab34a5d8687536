"""Cluster settings are read strictly: what is misspelt is refused, and not left to Kubernetes."""

import pytest
import yaml

from components.shared.runtime.errors import ConfigError
from pipelines import cluster
from pipelines.phases import PHASES, SPECS, between


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
    assert all(cluster.load(name).timeout.of(spec) > 0 for spec in (*SPECS.values(), cluster.REPORT))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shmm": "1Gi"}, "shmm"),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy"),
        ({"pods": {"gpu": pod("four"), "cpu": pod("1")}}, "pods.gpu.requests.cpu"),
        ({"retries": {"count": -1, "backoff_seconds": 1, "factor": 2}}, "retries.count"),
        ({"retries": {"count": 1, "backoff_seconds": 1, "factor": 2, "max_seconds": 9}}, "max_seconds"),
        ({"timeout": {"factor": 0, "most": None, "seconds": {}}}, "timeout.factor"),
        ({"timeout": {"factor": 1, "most": None, "seconds": {"cognates": 60}}}, "cognates"),
        ({"gpu_phases": ["cognates"]}, "cognates"),
        ({"gpu_phases": "none"}, "gpu_phases"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, monkeypatch, changes, named):
    with pytest.raises(ConfigError, match=named):
        changed(tmp_path, monkeypatch, **changes)


def test_a_cluster_stretches_and_cuts_what_the_phases_declare(tmp_path, monkeypatch):
    training, bitnet = SPECS["training"], SPECS["bitnet"]
    timeout = changed(
        tmp_path, monkeypatch, timeout={"factor": 2, "most": 200_000, "seconds": {"training": 9}}
    ).timeout
    assert (timeout.of(bitnet), timeout.of(training)) == (2 * bitnet.timeout_seconds, 9)
    assert cluster.Timeout(factor=9, most=70, seconds={}).of(bitnet) == 70


def test_the_phases_that_get_an_accelerator_are_those_that_declare_it_all_or_those_named():
    def wanting(value):
        settings = cluster.load().model_copy(update={"gpu_phases": value})
        return tuple(spec.name for spec in SPECS.values() if settings.wants_gpu(spec))

    assert wanting("declared") == ("cognate", "evomerge", "training")
    assert wanting("all") == PHASES
    assert wanting(("adas",)) == ("adas",)


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
