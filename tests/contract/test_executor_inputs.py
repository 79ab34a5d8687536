"""What KFP 2.17's launcher really passes to our components: recorded on a cluster, one file a task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.config.compose import compose
from components.shared.runtime.config.settings import parse
from components.shared.runtime.errors import ConfigError, ForgeError
from components.shared.runtime.identity import identity_of
from components.shared.runtime.request import command_line, run_root
from components.shared.runtime.request.inputs import COMMON, Request, from_kfp
from tests import mutations
from tests.contract.toy_phase import CONFIGS, Settings

RECORDINGS = sorted((Path(__file__).parents[1] / "fixtures" / "executor_inputs").glob("*.json"))
RUN = "91db5f79-d1b0-4594-95fb-5f0c48db45d5"


def recording(path: Path | str) -> dict[str, Any]:
    path = path if isinstance(path, Path) else RECORDINGS[0].with_name(f"{path}.json")
    found: dict[str, Any] = json.loads(path.read_text())["executor_input"]
    return found


def parsed(given: dict[str, Any]) -> Request:
    return from_kfp(json.dumps(given))


def identity(request: Request) -> str:
    """Of a piece of work with these parameters."""
    config = compose("toy", Settings, configs=CONFIGS)
    return identity_of(config, {}, step="", parameters=request.parameters, code_version="1")


def test_there_are_recordings_of_every_component() -> None:
    assert len(RECORDINGS) == 19


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_the_launcher_passes_is_understood(path: Path) -> None:
    given = recording(path)
    request = parsed(given)
    [name] = [name for name in given["outputs"]["artifacts"] if name != "executor-logs"]
    address = given["outputs"]["artifacts"][name]["artifacts"][0]["uri"]
    assert (request.output_name, request.uri) == (name, address) and request.in_pod
    assert request.target == address.replace("minio://", "/minio/")
    assert str(request.output_file) == given["outputs"]["outputFile"] and request.record is None
    artifacts = given["inputs"].get("artifacts", {})
    assert {key: len(places) for key, places in request.inputs.items()} == {
        key: len(found["artifacts"]) for key, found in artifacts.items()
    }
    assert all(
        place.startswith("/minio/mlpipeline/") for places in request.inputs.values() for place in places
    )
    asked = {key for key in given["inputs"]["parameterValues"] if "accelerator_" not in key}
    assert set(request.parameters) == asked - set(COMMON)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_where_a_pod_runs_is_no_part_of_what_it_does(path: Path) -> None:
    given = recording(path)
    values = given["inputs"]["parameterValues"]
    here = identity(parsed(given))
    for name in [name for name in values if "accelerator_" in name]:
        del values[name]
    nowhere = identity(parsed(given))
    values |= {"accelerator_count": "0", "pipelinechannel--accelerator_limit": "0"}
    assert here == nowhere == identity(parsed(given))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_log_that_the_launcher_adds_is_ignored_by_name_and_nothing_else(path: Path) -> None:
    given = recording(path)
    outputs = given["outputs"]["artifacts"]
    whole = parsed(given)
    logs = outputs.pop("executor-logs")
    assert parsed(given) == whole
    outputs["some-logs"] = logs
    with pytest.raises(ConfigError, match=r"it names 2: .*some-logs"):
        parsed(given)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_task_with_the_output_metrics_gets_a_place_for_its_record(path: Path) -> None:
    given = recording(path)
    without = parsed(given)
    place = without.uri.rpartition("/")[0] + "/metrics"
    given["outputs"]["artifacts"]["metrics"] = {"artifacts": [{"name": "metrics", "uri": place}]}
    assert parsed(given) == replace(without, record=Path(place.replace("minio://", "/minio/")))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_root_of_the_run_is_read_off_the_address_of_the_output(path: Path) -> None:
    root = run_root.root_of(parsed(recording(path)).uri)
    pipeline, run = root.removeprefix("minio://mlpipeline/v2/artifacts/").split("/")
    assert pipeline.startswith("agent-forge") and len(run) == len(RUN)
    assert run == RUN or pipeline != "agent-forge"


def test_numbered_inputs_and_parameters_are_lists_in_the_order_of_their_numbers() -> None:
    given = recording("evomerge")
    models = given["inputs"]["artifacts"].pop("models")["artifacts"]
    numbers = range(1, 12)
    for number in reversed(numbers):
        one = {**models[0], "uri": f"minio://mlpipeline/{number}"}
        given["inputs"]["artifacts"][f"model_{number}"] = {"artifacts": [one]}
        given["inputs"]["parameterValues"][f"base_model_{number}"] = f"base {number}"
    request = parsed(given)
    assert request.inputs["models"] == [f"/minio/mlpipeline/{number}" for number in numbers]
    assert request.parameters["base_models"] == [f"base {number}" for number in numbers]
    assert set(request.inputs) == {"models", "state"} and "base_model_1" not in request.parameters
    lost = given["inputs"]["artifacts"].pop("model_2")
    with pytest.raises(ConfigError, match="the list models has gaps"):
        parsed(given)
    given["inputs"]["artifacts"] |= {"model_2": lost, "models": {"artifacts": models}}
    with pytest.raises(ConfigError, match="models is given twice"):
        parsed(given)


def test_an_optional_input_that_is_not_there_is_no_member_of_its_list() -> None:
    given = recording("evomerge")
    given["inputs"]["artifacts"]["record_1"] = given["inputs"]["artifacts"].pop("models")
    given["inputs"]["artifacts"]["record_2"] = {"artifacts": []}
    assert len(parsed(given).inputs["records"]) == 1


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_mutated_input_is_understood_or_refused(path: Path) -> None:
    refused = 0
    for text in mutations.texts(recording(path), seed=len(path.stem), count=60):
        try:
            request = command_line.parse("toy", "", ["--executor-input", text])
            if request.settings:
                parse("toy", Settings, request.settings, request.seed or 0)
        except ForgeError as error:
            refused += 1
            assert error.what and (error.where or error.why)
    assert refused > 10


def _changed(given: dict[str, Any], place: str, value: Any) -> str:
    *above, last = place.split(".")
    node: Any = given
    for name in above:
        node = node[int(name) if name.isdigit() else name]
    node[last] = value
    return json.dumps(given)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("inputs", ["x"]),
        ("inputs.artifacts", ["x"]),
        ("inputs.artifacts.models", ["x"]),
        ("inputs.artifacts.models", "x"),
        ("inputs.artifacts.models", None),
        ("inputs.artifacts.models", {"artifacts": ["x"]}),
        ("inputs.parameterValues", ["x"]),
        ("inputs.parameterValues.seed", float("inf")),
        ("outputs", None),
        ("outputs", ["x"]),
        ("outputs.artifacts", None),
        ("outputs.artifacts.model", None),
        ("outputs.artifacts.model", {"artifacts": []}),
        ("outputs.artifacts.model", {"artifacts": ["x"]}),
    ],
    ids=repr,
)
def test_an_input_of_another_shape_is_refused_by_its_place(place: str, value: Any) -> None:
    with pytest.raises(ForgeError) as refused:
        command_line.parse("toy", "", ["--executor-input", _changed(recording("evomerge"), place, value)])
    assert refused.value.where.startswith(("--executor-input", "parameter seed")) and refused.value.fix


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("inputs", None),
        ("inputs.artifacts", None),
        ("inputs.artifacts.models", {"artifacts": None}),
        ("inputs.parameterValues", None),
    ],
    ids=repr,
)
def test_an_input_that_is_null_is_none(place: str, value: Any) -> None:
    command_line.parse("toy", "", ["--executor-input", _changed(recording("evomerge"), place, value)])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"inputs":' * 50_000, "null", "1", '"text"'])
def test_json_that_is_no_executor_input_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        from_kfp(text)
