"""The compiled pipeline: committed as it compiles, inside the part of the IR that backends do, wired as it should be."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from kfp import components, dsl
from kfp.dsl import Artifact, Collected, Input, Model, Output, ParallelFor

from components.image import VERSION
from components.shared.runtime.errors import ConfigError, UnsupportedPipeline
from pipelines import agent_forge, ir_yaml
from pipelines.cache import Depot
from pipelines.cluster import FOLDER, load
from pipelines.leaf import Options
from pipelines.local import Runner
from pipelines.parameters import given_parameters
from pipelines.phases import COMPILED, GPU_PHASES, PHASES
from pipelines.process import Outcome
from pipelines.run_folder import RunFolder
from tests.pipeline.toy_pipelines import join, toy, write

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
        "from pipelines.cli import app\n"
        f"app(['compile', '-o', {str(tmp_path / 'again.yaml')!r}])"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AGENT_FORGE_IMAGE")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again = (tmp_path / "again.yaml").read_text()
    assert without_sdk_version(again) == without_sdk_version(COMPILED.read_text()), "run: forge compile"


def test_kfp_itself_loads_the_committed_pipeline():
    loaded = components.load_component_from_file(str(COMPILED))
    assert loaded.name == "agent-forge"
    assert set(loaded.component_spec.inputs) >= {
        "base_models",
        "profile",
        "overrides",
        "seed",
        "generations",
        "workers",
    }


def test_the_version_of_the_images_is_that_of_the_project():
    import tomllib

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.parametrize("cluster", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_the_pipeline_stays_inside_the_supported_part_for_every_cluster(cluster):
    text = agent_forge.text(agent_forge.pipeline(cluster=load(cluster), rounds=1))
    pipeline = ir_yaml.parse(text)
    phases = {
        component.name.removeprefix("comp-").split("-")[0]
        for _, component in pipeline.containers(pipeline.root.body)
    }
    assert phases == set(PHASES)


def test_the_committed_pipeline_is_far_from_the_size_that_a_workflow_may_have():
    assert len(COMPILED.read_bytes()) < 128 * 1024


def documents(text):
    spec, platform = yaml.safe_load_all(text)
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def uses(spec):
    """Every container task: (phase, task, its executor's label, the chain of (task, component) that leads to it)."""

    def walk(dag, chain):
        for name, task in dag["tasks"].items():
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                yield from walk(component["dag"], [*chain, (task, component)])
            else:
                yield name.split("-")[0], task, component["executorLabel"], chain

    yield from walk(spec["root"]["dag"], [])


def root_parameter(spec, name, chain):
    """The pipeline's parameter behind `name` in the innermost DAG of `chain`; every DAG on the way must declare it."""
    for task, component in reversed(chain):
        assert name in component["inputDefinitions"]["parameters"], (
            f"{name} is not declared by a DAG that passes it on"
        )
        name = task["inputs"]["parameters"][name]["componentInputParameter"]
    assert name in spec["root"]["inputDefinitions"]["parameters"]
    return name


def test_accelerators_reach_every_gpu_phase_also_inside_loops():
    spec, _ = documents(COMPILED.read_text())
    seen = {}
    for phase, task, label, chain in uses(spec):
        resources = spec["deploymentSpec"]["executors"][label]["container"]["resources"]
        light = any(step in label for step in ("gather", "select"))  # these copy and choose
        assert ("accelerator" in resources) == (phase in GPU_PHASES and not light), label
        for key, wanted in (("resourceType", "accelerator_type"), ("resourceCount", "accelerator_limit")):
            if "accelerator" in resources:
                channel = (
                    resources["accelerator"][key].removeprefix("{{$.inputs.parameters['").removesuffix("']}}")
                )
                source = task["inputs"]["parameters"][channel]["componentInputParameter"]
                assert root_parameter(spec, source, chain) == wanted
                seen.setdefault(phase, set()).add(len(chain))
    assert set(seen) == set(GPU_PHASES)
    assert seen["cognate"] == {0, 2} and seen["evomerge"] == {
        0,
        2,
    }  # beside the loops, and in the pods inside them


def test_kubernetes_settings_by_parameter_are_known_where_they_are_used():
    spec, executors = documents(COMPILED.read_text())
    wanted = {"tolerations", "node_selector", "config_map", "s3_secret"}
    for phase, _, label, chain in uses(spec):
        found = executors[label]
        assert found["activeDeadlineSeconds"] == str(load().timeout_seconds[phase])
        assert found["fieldPathAsEnv"] == [
            {"name": "FORGE_PIPELINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]
        sources = {
            found["tolerations"][0]["tolerationJson"]["componentInputParameter"],
            found["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"],
            found["configMapAsEnv"][0]["configMapNameParameter"]["componentInputParameter"],
            found["secretAsEnv"][0]["secretNameParameter"]["componentInputParameter"],
        }
        assert {root_parameter(spec, source, chain) for source in sources} == wanted
        assert found["configMapAsEnv"][0]["optional"] and found["secretAsEnv"][0]["optional"]


def test_every_container_but_the_gather_is_told_what_the_cache_key_needs():
    spec, _ = documents(COMPILED.read_text())
    for _, task, label, chain in uses(spec):
        told = {"profile", "overrides", "seed", "code_version", "config_digest", "checkpoint_root"}
        if "gather" not in label:
            sources = {name: task["inputs"]["parameters"][name]["componentInputParameter"] for name in told}
            assert {name: root_parameter(spec, source, chain) for name, source in sources.items()} == {
                n: n for n in told
            }
        assert (
            task["cachingOptions"]["enableCache"]
            and task["retryPolicy"]["maxRetryCount"] == load().retries.count
        )
        container = spec["deploymentSpec"]["executors"][label]["container"]
        assert container["args"][-2:] == ["--executor-input", "{{$}}"]


@dataclass
class Recorder:
    """A launcher that starts nothing: it keeps what would have been started, and writes a small file for each output."""

    requests: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)

    async def run(self, job):
        request = json.loads(job.arguments[job.arguments.index("--executor-input") + 1])
        name = job.environment["FORGE_TASK"]
        self.requests[name], self.arguments[name] = request, list(job.arguments)
        for output in request["outputs"]["artifacts"].values():
            Path(output["artifacts"][0]["uri"]).mkdir(parents=True)
            (Path(output["artifacts"][0]["uri"]) / "made-by").write_text(name)
        return Outcome(0, 0.0)

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
    loaded = ir_yaml.parse(pipeline)
    launcher = Recorder()

    async def whole():
        folder, depot = RunFolder(tmp_path / "runs" / "run"), Depot(tmp_path / "runs")
        parameters = given_parameters(given, loaded.root.parameters)
        return await Runner(
            loaded, folder, depot, launcher, parameters, Options(cache=False), lambda _: None
        ).run()

    assert asyncio.run(whole()) == "succeeded"
    return launcher


@pytest.fixture
def no_settings(monkeypatch):
    """Keys of the cache ask for the settings of phases, which are not the subject here."""
    monkeypatch.setattr("pipelines.leaf.cache_key", lambda component, inputs: "key")


def test_what_each_phase_is_handed_in_the_whole_pipeline(tmp_path, no_settings):
    run = recorded(
        tmp_path,
        COMPILED.read_text(),
        base_models='["memory", "/given/model", "standard"]',
        workers="[0, 1, 2]",
        seed="5",
    )
    variants = [f"cognate-variants/{number}/cognate-pod/cognate" for number in range(3)]
    assert [run.parameters(name)["variant"] for name in variants] == ["memory", "/given/model", "standard"]
    assert all(run.inputs(name) == {"trunk": ["cognate-trunk"]} for name in variants)
    assert run.inputs("evomerge-gather") == {"models": variants}  # Collected, in the order of base_models
    first = [f"evomerge-round-1/{number}/evomerge-first-pod/evomerge-worker" for number in range(3)]
    second = [f"evomerge-round-2/{number}/evomerge-pod/evomerge-worker" for number in range(3)]
    for number, names in enumerate((first, second)):
        for index, name in enumerate(names):
            told = run.parameters(name)
            assert (told["index"], told["round"], told["rounds"]) == (index, number, 2)
            assert isinstance(told["index"], int) and told["seed"] == 5
    assert run.inputs(first[1]) == {"models": ["evomerge-gather"]}
    assert run.inputs("evomerge-select") == {"models": ["evomerge-gather"], "results": first}
    assert run.inputs(second[2]) == {"models": ["evomerge-gather"], "state": ["evomerge-select"]}
    assert run.inputs("evomerge-select-2") == {"models": ["evomerge-gather"], "results": second}
    assert run.inputs("evomerge") == {"models": ["evomerge-gather"], "state": ["evomerge-select-2"]}
    for before, phase in itertools.pairwise(PHASES[1:]):
        assert run.inputs(phase) == {"model": [before]}
        assert run.arguments[phase][1:3] == ["-m", f"components.{phase}"]
    assert run.arguments["evomerge-select"][1:5] == ["-m", "components.evomerge", "--step", "select"]


def test_a_pipeline_that_starts_at_a_phase_imports_its_artifact(tmp_path, no_settings):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "made-by").write_text("somebody")
    text = agent_forge.text(agent_forge.pipeline(start="bitnet", end="training"))
    run = recorded(tmp_path, text, artifact_uri=str(tmp_path / "given"))
    assert run.inputs("bitnet") == {"model": ["somebody"]}
    assert run.inputs("training") == {"model": ["bitnet"]}
    assert set(run.requests) == {"bitnet", "training"}


def test_a_pipeline_that_starts_at_evomerge_gathers_addresses(tmp_path, no_settings):
    text = agent_forge.text(agent_forge.pipeline(start="evomerge", end="evomerge", rounds=1))
    run = recorded(tmp_path, text, artifact_uris='["s3://a/one", "s3://a/two"]')
    assert run.parameters("evomerge-gather") == {"uris": ["s3://a/one", "s3://a/two"]}
    assert run.inputs("evomerge") == {"models": ["evomerge-gather"], "state": ["evomerge-select"]}


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_a_pipeline_of_its_own(phase):
    from pipelines import single_phase

    pipeline = ir_yaml.parse(agent_forge.text(single_phase.pipeline(phase)))
    assert pipeline.name == f"agent-forge-{phase}"
    given = {"cognate": "base_models", "evomerge": "artifact_uris"}.get(phase, "artifact_uri")
    assert given in pipeline.root.parameters


def test_phases_in_the_wrong_order_and_unknown_ones_are_refused():
    with pytest.raises(ConfigError, match="did you mean bitnet"):
        agent_forge.pipeline(start="bitnett")
    with pytest.raises(ConfigError, match="comes after"):
        agent_forge.pipeline(start="adas", end="bitnet")


@dsl.container_component
def number(out: Output[Artifact], value: dsl.OutputPath(int)):
    return toy("")


@dsl.pipeline
def with_a_condition():
    made = number()
    with dsl.If(made.outputs["value"] == 1):
        write(text="x")


@dsl.pipeline
def with_an_exit_handler():
    with dsl.ExitHandler(write(text="x")):
        write(text="y")


@dsl.pipeline
def with_one_of() -> Artifact:
    made = number()
    with dsl.If(made.outputs["value"] == 1):
        one = write(text="x")
    with dsl.Else():
        other = write(text="y")
    return dsl.OneOf(one.output, other.output)


@dsl.pipeline
def with_an_expression():
    with ParallelFor([{"a": "x"}]) as item:
        write(text=item.a)


@dsl.container_component
def concatenated(text: str, out: Output[Artifact]):
    return dsl.ContainerSpec(image="toy", command=["python"], args=[dsl.ConcatPlaceholder(["--x=", text])])


@dsl.pipeline
def with_a_concat():
    concatenated(text="x")


@dsl.container_component
def metadata_of(before: Input[Artifact], out: Output[Artifact]):
    return dsl.ContainerSpec(image="toy", command=["python"], args=[before.metadata])


@dsl.pipeline
def with_metadata():
    metadata_of(before=write(text="x").output)


@dsl.container_component
def first_only(parts: Input[list[Artifact]], out: Output[Artifact]):
    return dsl.ContainerSpec(image="toy", command=["python"], args=["{{$.inputs.artifacts['parts'].path}}"])


@dsl.pipeline
def with_a_bare_list():
    with ParallelFor(["a", "b"]) as item:
        part = write(text=item)
    first_only(parts=Collected(part.output))


@dsl.pipeline
def takes_a_list(parts: Input[list[Artifact]]):
    join(parts=parts)


@dsl.pipeline
def with_a_list_into_a_nested_pipeline():
    with ParallelFor(["a", "b"]) as item:
        part = write(text=item)
    takes_a_list(parts=Collected(part.output))


@dsl.pipeline
def with_text_of_parameters(name: str = "x"):
    write(text=f"hello {name}")


@dsl.pipeline
def nested() -> Artifact:
    return write(text="x").output


@dsl.pipeline
def with_a_retried_pipeline():
    nested().set_retry(2)


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        (with_a_condition, "triggerPolicy"),
        (with_an_exit_handler, "triggerPolicy"),
        (with_one_of, "triggerPolicy|OneOf"),
        (with_an_expression, "parameterExpressionSelector"),
        (with_a_concat, "ConcatPlaceholder"),
        (with_metadata, "metadata"),
        (with_a_bare_list, "a list of artifacts as an argument"),
        (with_a_list_into_a_nested_pipeline, "a list of artifacts into a nested pipeline"),
        (with_text_of_parameters, "the placeholder"),
        (with_a_retried_pipeline, "a retry of a nested pipeline"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_the_backend_would_not_do_is_refused_by_name(pipeline, names):
    with pytest.raises(UnsupportedPipeline, match=names):
        ir_yaml.parse(agent_forge.text(pipeline))


def test_a_loop_over_artifacts_is_refused_by_name():
    @dsl.container_component
    def takes_one(part: Input[Artifact], out: Output[Model]):
        return toy("")

    @dsl.pipeline
    def makes_a_list() -> list[Artifact]:
        with ParallelFor(["a", "b"]) as item:
            part = write(text=item)
        return Collected(part.output)

    @dsl.pipeline
    def over_artifacts():
        with ParallelFor(makes_a_list().output) as artifact:
            takes_one(part=artifact)

    with pytest.raises(UnsupportedPipeline, match="artifactIterator"):
        ir_yaml.parse(agent_forge.text(over_artifacts))


@pytest.mark.parametrize("text", ["", "a: [", "hello: world"])
def test_what_is_no_compiled_pipeline_is_refused(text):
    with pytest.raises(UnsupportedPipeline):
        ir_yaml.parse(text)
