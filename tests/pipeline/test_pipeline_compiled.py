"""The compiled pipeline: committed as it compiles, and inside the part of the IR that backends do, for every cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import components

from components.shared.runtime.code import VERSION
from components.shared.runtime.errors import ConfigError
from pipelines import agent_forge
from pipelines.cluster import FOLDER, REPORT, Queue, Spot, load
from pipelines.ir import reader
from pipelines.kubeflow import size
from pipelines.phases import COMPILED, PHASES, SPECS
from pipelines.settings import check_search, composed, parameter_of
from tests.pipeline.compiled_pipeline import compiled, documents, parameter, uses

ROOT = Path(__file__).resolve().parents[2]


def without_sdk_version(text):
    return [line for line in text.splitlines() if not line.startswith("sdkVersion")]


def test_the_committed_pipeline_is_what_compiles_with_no_torch_at_hand(tmp_path):
    code = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        heavy = ('torch', 'transformers', 'numpy', 'safetensors')\n"
        "        if name.split('.')[0] in heavy: raise ImportError(f'{name} is heavy')\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from pathlib import Path\n"
        "from pipelines.agent_forge import pipeline, text\n"
        f"Path({str(tmp_path / 'again.yaml')!r}).write_text(text(pipeline(pinned=False)))"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AGENT_FORGE_IMAGE")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again = (tmp_path / "again.yaml").read_text()
    assert without_sdk_version(again) == without_sdk_version(COMPILED.read_text()), "run: make compile"


def test_kfp_itself_loads_the_committed_pipeline():
    loaded = components.load_component_from_file(str(COMPILED))
    assert loaded.name == "agent-forge"
    told = {"base_model_1", "base_model_2", "base_model_3", "seed", *map(parameter_of, PHASES)}
    assert set(loaded.component_spec.inputs) >= told
    spec, _ = documents(COMPILED.read_text())
    assert spec["pipelineInfo"]["displayName"] == "Agent Forge"
    parameters = spec["root"]["inputDefinitions"]["parameters"].values()
    assert all(one["description"] for one in parameters), "what KFP's page says of them"


def test_the_version_of_the_images_is_that_of_the_project():
    import tomllib

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.parametrize("cluster", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_the_pipeline_stays_inside_the_supported_part_for_every_cluster(cluster):
    pipeline = reader.parse(compiled(cluster))
    phases = {
        component.name.removeprefix("comp-").split("-")[0]
        for _, component in pipeline.containers(pipeline.root.body)
    }
    assert phases == {*PHASES, "report"}


def test_the_graph_is_written_out_so_that_a_run_takes_few_pods():
    text = COMPILED.read_text()
    spec, _ = documents(text)
    tasks = spec["root"]["dag"]["tasks"]
    assert not any("dag" in component for component in spec["components"].values())
    assert not any("parameterIterator" in task for task in tasks.values())
    assert size.estimate(text).pods == 2 * len(tasks) + 1 == 35
    assert size.check(text, load().workflow_bytes).bytes < load().workflow_bytes


def test_a_graph_whose_workflow_kfp_could_not_show_is_refused_before_it_is_submitted():
    text = compiled(workers=4, rounds=3)
    with pytest.raises(ConfigError, match=r"53 pods.*fewer --rounds or --workers"):
        size.check(text, load().workflow_bytes)
    before = size.estimate(compiled(rounds=1))
    assert before.bytes < size.estimate(COMPILED.read_text()).bytes < size.estimate(text).bytes


def test_evaluations_can_be_shared_out_in_as_many_rounds_as_their_readme_says():
    configs = composed(overrides=["evomerge.fan_out=evaluations", "evomerge.generations=3"])
    check_search(configs, rounds=3, workers=2)
    size.check(compiled(rounds=3), load().workflow_bytes)
    with pytest.raises(ConfigError, match="workflow_bytes"):
        size.check(compiled(rounds=4), load().workflow_bytes)


def test_the_phases_that_the_cluster_says_ask_for_an_accelerator_and_no_others():
    for name in ("default", "gpu"):
        for phase, task, container, _ in uses(compiled(name)):
            light = phase == "report" or task["taskInfo"]["name"].endswith("selection")
            wanted = not light and load(name).wants_gpu(SPECS[phase])
            accelerator = container["resources"].get("accelerator")
            assert bool(accelerator) == wanted, task["taskInfo"]["name"]
            if accelerator:
                assert parameter(task, accelerator["resourceType"]) == "accelerator_type"
                assert parameter(task, accelerator["resourceCount"]) == "accelerator_limit"


def test_gpu_pods_and_cpu_pods_have_places_and_sizes_of_their_own():
    cluster = load("gpu").model_copy(update={"gpu_phases": ("training",)})
    seen = set()
    for _, _, container, found in uses(agent_forge.text(agent_forge.pipeline(cluster=cluster))):
        kind = "gpu" if "accelerator" in container["resources"] else "cpu"
        seen.add(kind)
        [toleration] = found["tolerations"]
        assert toleration["tolerationJson"]["componentInputParameter"] == f"{kind}_tolerations"
        selector = found["nodeSelector"]["nodeSelectorJson"]
        assert selector["componentInputParameter"] == f"{kind}_node_selector"
        pod = cluster.pods[kind]
        assert container["resources"]["resourceMemoryRequest"] == pod.requests.memory
        assert container["resources"]["resourceMemoryLimit"] == pod.limits.memory
        mounts = {mount["mountPath"]: mount["sizeLimit"] for mount in found["emptyDirMounts"]}
        assert mounts == {"/tmp": pod.scratch, **({"/dev/shm": cluster.shm} if kind == "gpu" else {})}
    assert seen == {"gpu", "cpu"}


def test_every_pod_is_restricted_timed_and_told_where_it_is():
    for phase, _, container, found in uses(COMPILED.read_text()):
        assert found["activeDeadlineSeconds"] == str(load().timeout.of(SPECS.get(phase, REPORT)))
        assert found["securityContext"] == {
            "runAsUser": "65532",
            "runAsGroup": "65532",
            "runAsNonRoot": True,
        }
        assert found["fieldPathAsEnv"] == [
            {"name": "FORGE_PIPELINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]
        [config_map], [secret] = found["configMapAsEnv"], found["secretAsEnv"]
        assert config_map["configMapNameParameter"]["componentInputParameter"] == "config_map"
        assert secret["secretNameParameter"]["componentInputParameter"] == "s3_secret"
        assert config_map["optional"] and secret["optional"]
        assert "AWS_REGION" in {pair["envVar"] for pair in config_map["keyToEnv"]}
        told = {pair["name"]: pair["value"] for pair in container["env"]}
        assert told["FORGE_RETRIES"] == "2" and told["FORGE_TASK"].startswith(phase)


def test_the_deadline_of_all_attempts_leaves_each_of_them_its_time():
    for name in sorted(path.stem for path in FOLDER.glob("*.yaml")):
        cluster = load(name)
        for phase, task, _, _ in uses(compiled(name)):
            retry, timeout = task["retryPolicy"], cluster.timeout.of(SPECS.get(phase, REPORT))
            count, pause = retry["maxRetryCount"], cluster.retries.backoff_seconds
            pauses = sum(pause * cluster.retries.factor**n for n in range(count))
            # Argo counts from the first attempt's start: after the last retry begins, a whole attempt fits in.
            assert int(retry["backoffMaxDuration"].removesuffix("s")) > timeout * (count + 1) + pauses


def test_queue_pull_secrets_and_spot_nodes_are_settings():
    cluster = load().model_copy(
        update={
            "queue": Queue(name="team", priority="low"),
            "image_pull_secrets": ("registry",),
            "spot": Spot(
                phases=("bitnet",), label={"pool": "spot"}, taint={"key": "spot", "operator": "Exists"}
            ),
        }
    )
    for phase, _, _, found in uses(agent_forge.text(agent_forge.pipeline(cluster=cluster))):
        labels = found["podMetadata"]["labels"]
        assert labels == {"kueue.x-k8s.io/queue-name": "team", "kueue.x-k8s.io/priority-class": "low"}
        assert [one["secretName"] for one in found["imagePullSecret"]] == ["registry"]
        preferred = [one for one in found.get("nodeAffinity", ()) if one.get("weight") == 100]
        assert bool(preferred) == (phase == "bitnet") == (len(found["tolerations"]) == 2)


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_a_pipeline_of_its_own(phase):
    from pipelines import single_phase

    pipeline = reader.parse(agent_forge.text(single_phase.pipeline(phase)))
    assert pipeline.name == f"agent-forge-{phase}"
    given = {"cognate": "base_model_1", "evomerge": "artifact_uri_1"}.get(phase, "artifact_uri")
    assert given in pipeline.root.parameters


def test_phases_in_the_wrong_order_and_unknown_ones_are_refused():
    with pytest.raises(ConfigError, match="did you mean bitnet"):
        agent_forge.pipeline(start="bitnett")
    with pytest.raises(ConfigError, match="comes after"):
        agent_forge.pipeline(start="adas", end="bitnet")


@pytest.mark.parametrize("counts", [{"parents": 1}, {"workers": 0}, {"rounds": 0}, {"rounds": 1_000_000}])
def test_a_search_needs_two_parents_a_worker_and_a_round_and_not_a_million(counts):
    with pytest.raises(ConfigError, match=next(iter(counts))):
        agent_forge.pipeline(**counts)
