"""The compiled pipeline: committed as it compiles, inside the part of the IR that backends do, wired as it should be."""

import asyncio
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from kfp import components

from components.shared.runtime.code import VERSION, code_digest, code_version
from components.shared.runtime.errors import ConfigError
from pipelines import agent_forge
from pipelines.cluster import FOLDER, REPORT, Queue, Spot, load
from pipelines.ir import reader
from pipelines.ir.parameters import given_parameters
from pipelines.kubeflow import size
from pipelines.local.cache import ArtifactCache
from pipelines.local.options import RunOptions
from pipelines.local.processes.pool import ProcessResult
from pipelines.local.scheduler import Scheduler
from pipelines.local.task import TaskRunner
from pipelines.phases import COMPILED, PHASES, SPECS
from pipelines.runs.folder import RunFolder
from pipelines.runs.log import EventLog
from pipelines.settings import as_parameters, check_search, composed, parameter_of

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


@functools.cache
def compiled(cluster="default", **shape):
    return agent_forge.text(agent_forge.pipeline(cluster=load(cluster), **shape))


def documents(text):
    spec, platform = yaml.safe_load_all(text)
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def uses(text):
    """Every container task: (phase, task, its container, its Kubernetes settings)."""
    spec, settings = documents(text)
    for task in spec["root"]["dag"]["tasks"].values():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        if "container" in spec["deploymentSpec"]["executors"][label]:
            container = spec["deploymentSpec"]["executors"][label]["container"]
            yield task["taskInfo"]["name"].split("-")[0], task, container, settings[label]


def parameter(task, placeholder):
    """The pipeline's parameter behind a placeholder of a task's container."""
    channel = placeholder.removeprefix("{{$.inputs.parameters['").removesuffix("']}}")
    return task["inputs"]["parameters"][channel]["componentInputParameter"]


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


def test_the_cache_key_knows_code_and_configuration_also_when_a_run_is_started_from_the_page():
    for phase, task, container, _ in uses(compiled()):
        assert ("enableCache" in task["cachingOptions"]) == (phase != "report")
        assert container["args"][-2:] == ["--executor-input", "{{$}}"]
        if phase == "report":
            continue
        given = task["inputs"]["parameters"]
        for name in ("seed", "checkpoint_root"):
            assert given[name]["componentInputParameter"] == name
        assert given["settings"]["componentInputParameter"] == parameter_of(phase)
        assert given["code_version"]["runtimeValue"]["constant"] == code_version(phase)


def told(text, **given):
    """What each task of a compiled pipeline is told for a run, as KFP's cache sees it: task → its parameters."""
    spec, _ = documents(text)
    values = {
        name: parameter.get("defaultValue")
        for name, parameter in spec["root"]["inputDefinitions"]["parameters"].items()
    } | given
    return {
        task["taskInfo"]["name"]: {
            name: values[one["componentInputParameter"]]
            if "componentInputParameter" in one
            else one["runtimeValue"]["constant"]
            for name, one in task["inputs"].get("parameters", {}).items()
        }
        for _, task, _, _ in uses(text)
    }


def phases_that_differ(one, other):
    assert one.keys() == other.keys()
    return {name.split("-")[0] for name in one if one[name] != other[name]}


def test_a_changed_setting_changes_the_parameters_of_its_own_phase_alone():
    before = told(compiled())
    for phase in PHASES:
        parameters = as_parameters(composed(overrides=[f"{phase}.threads=7"]))
        assert phases_that_differ(before, told(compiled(), **parameters)) == {phase}
    everything = told(compiled(), **as_parameters(composed(overrides=["evaluation.items=7"])))
    assert phases_that_differ(before, everything) == set(PHASES)
    assert phases_that_differ(before, told(compiled(), seed=1)) == set(PHASES)


@pytest.fixture
def copy_of_components(tmp_path, monkeypatch):
    """A copy of the sources whose digests are taken in place of the project's."""
    shutil.copytree(
        ROOT / "components", tmp_path / "components", ignore=shutil.ignore_patterns("__pycache__")
    )
    original = code_digest.__wrapped__
    monkeypatch.setattr(
        "components.shared.runtime.code.code_digest", lambda names: original(names, tmp_path / "components")
    )
    return tmp_path / "components"


def test_a_changed_file_changes_the_parameters_of_its_own_phase_and_a_shared_one_those_of_all(
    copy_of_components,
):
    def now():
        return told(agent_forge.text(agent_forge.pipeline()))

    before = now()
    (copy_of_components / "compression" / "recovery.py").write_text("# changed\n")
    assert phases_that_differ(before, changed := now()) == {"compression"}
    (copy_of_components / "shared" / "optim" / "schedule.py").write_text("# changed\n")
    assert phases_that_differ(changed, now()) == set(PHASES)


def test_the_committed_pipeline_runs_any_code():
    for phase, task, _, _ in uses(COMPILED.read_text()):
        if phase != "report":
            given = task["inputs"]["parameters"]
            assert given["code_version"]["runtimeValue"]["constant"] == ""


@dataclass
class Recorder:
    """A launcher that starts nothing: it keeps what would have been started, and writes a small file for each output."""

    requests: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)

    async def run(self, spec):
        request = json.loads(spec.arguments[spec.arguments.index("--executor-input") + 1])
        name = spec.environment["FORGE_TASK"]
        self.requests[name], self.arguments[name] = request, list(spec.arguments)
        for output in request["outputs"]["artifacts"].values():
            Path(output["artifacts"][0]["uri"]).mkdir(parents=True)
            (Path(output["artifacts"][0]["uri"]) / "made-by").write_text(name)
        return ProcessResult(0, 0.0)

    def stop(self, grace):
        pass

    def kill(self):
        pass

    def inputs(self, name):
        """Who made each input of a task."""
        artifacts = self.requests[name]["inputs"]["artifacts"]
        return {
            key: [Path(one["uri"], "made-by").read_text() for one in group["artifacts"]]
            for key, group in artifacts.items()
        }

    def parameters(self, name):
        return self.requests[name]["inputs"]["parameterValues"]


def recorded(tmp_path, pipeline, **given):
    loaded = reader.parse(pipeline)
    recorder = Recorder()

    async def whole():
        folder = RunFolder(tmp_path / "runs" / "run")
        tasks = TaskRunner(
            folder,
            ArtifactCache(tmp_path / "runs"),
            recorder,
            RunOptions(cache=False),
            EventLog(folder.events, "run"),
        )
        return await Scheduler(loaded, given_parameters(given, loaded.root.parameters), tasks).run()

    assert asyncio.run(whole()) is None
    return recorder


@pytest.fixture
def no_settings(monkeypatch):
    """Keys of the cache ask for the settings of phases, which are not the subject here."""
    monkeypatch.setattr("pipelines.local.task.cache_key", lambda component, inputs: "key")


def test_what_each_phase_is_handed_in_the_whole_pipeline(tmp_path, no_settings):
    run = recorded(
        tmp_path,
        COMPILED.read_text(),
        base_model_1="memory",
        base_model_2="/given/model",
        base_model_3="standard",
        seed="5",
    )
    trunk = run.parameters("cognate-trunk")
    assert [trunk[f"base_model_{n}"] for n in (1, 2, 3)] == ["memory", "/given/model", "standard"]
    variants = [f"cognate-variant-{number}" for number in (1, 2, 3)]
    assert [run.parameters(name)["variant"] for name in variants] == ["memory", "/given/model", "standard"]
    assert all(run.inputs(name) == {"trunk": ["cognate-trunk"]} for name in variants)
    parents = {f"input_model_{number}": [name] for number, name in enumerate(variants, 1)}
    first, second = ([f"evomerge-round-{n}-worker-{index}" for index in (1, 2)] for n in (1, 2))
    for number, names in enumerate((first, second)):
        for index, name in enumerate(names):
            told = run.parameters(name)
            assert (told["index"], told["round"], told["rounds"], told["workers"]) == (index, number, 2, 2)
            assert isinstance(told["index"], int) and told["seed"] == 5
    assert all(run.inputs(name) == parents for name in first)
    selection = "evomerge-round-1-selection"
    assert run.inputs(selection) == {**parents, "result_1": [first[0]], "result_2": [first[1]]}
    assert all(run.inputs(name) == {**parents, "state": [selection]} for name in second)
    assert run.inputs("evomerge") == {**parents, "result_1": [second[0]], "result_2": [second[1]]}
    for before, phase in itertools.pairwise(PHASES[1:]):
        assert run.inputs(phase) == {"input_model": [before]}
        assert run.arguments[phase][1:3] == ["-m", f"components.{phase}"]
    assert run.arguments[selection][1:5] == ["-m", "components.evomerge", "--step", "select"]
    records = run.inputs("report")
    assert sorted(made for [made] in records.values()) == sorted(set(run.requests) - {"report"})
    assert records["record_1"] == ["cognate-trunk"] and records["record_16"] == ["compression"]


def test_a_pipeline_that_starts_at_a_phase_imports_its_artifact(tmp_path, no_settings):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "made-by").write_text("somebody")
    text = agent_forge.text(agent_forge.pipeline(start="bitnet", end="training"))
    run = recorded(tmp_path, text, artifact_uri=str(tmp_path / "given"))
    assert run.inputs("bitnet") == {"input_model": ["somebody"]}
    assert run.inputs("training") == {"input_model": ["bitnet"]}
    assert set(run.requests) == {"bitnet", "training", "report"}


def test_a_pipeline_that_starts_at_evomerge_imports_its_parents(tmp_path, no_settings):
    given = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "made-by").write_text(name)
        given[f"artifact_uri_{len(given) + 1}"] = str(tmp_path / name)
    made = agent_forge.pipeline(start="evomerge", end="evomerge", parents=2, workers=1, rounds=1)
    run = recorded(tmp_path, agent_forge.text(made), **given)
    assert run.inputs("evomerge-round-1-worker-1") == {"input_model_1": ["one"], "input_model_2": ["two"]}
    assert run.inputs("evomerge") == {
        "input_model_1": ["one"],
        "input_model_2": ["two"],
        "result_1": ["evomerge-round-1-worker-1"],
    }


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
