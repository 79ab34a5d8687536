"""What each task of the compiled pipeline is handed: what KFP's cache knows of it, and which artifacts of which tasks."""

import asyncio
import itertools
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.shared.runtime.code import code_digest, code_version
from pipelines import agent_forge
from pipelines.ir import reader
from pipelines.ir.parameters import given_parameters
from pipelines.local.cache import ArtifactCache
from pipelines.local.options import RunOptions
from pipelines.local.processes.pool import ProcessResult
from pipelines.local.scheduler import Scheduler
from pipelines.local.task import TaskRunner
from pipelines.phases import COMPILED, PHASES
from pipelines.runs.folder import RunFolder
from pipelines.runs.log import EventLog
from pipelines.settings import as_parameters, composed, parameter_of
from tests.pipeline.compiled_pipeline import compiled, defaults, documents, uses

ROOT = Path(__file__).resolve().parents[2]


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


def test_what_the_last_phase_makes_is_registered_and_nothing_before_it():
    names = {phase: config.settings.register_as for phase, config in composed().items()}
    assert [phase for phase, name in names.items() if name] == [PHASES[-1]]
    assert '"register_as":"agent-forge"' in as_parameters(composed())[parameter_of(PHASES[-1])]


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
    start = PHASES[-3]  # of a short pipeline, since it is compiled three times

    def now():
        return told(agent_forge.text(agent_forge.pipeline(start=start, settings=defaults())))

    before = now()
    (copy_of_components / "compression" / "recovery.py").write_text("# changed\n")
    assert phases_that_differ(before, changed := now()) == {"compression"}
    (copy_of_components / "shared" / "optim" / "schedule.py").write_text("# changed\n")
    assert phases_that_differ(changed, now()) == set(PHASES[-3:])


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
