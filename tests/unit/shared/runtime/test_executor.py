"""What a phase is asked to do: KFP's JSON, the command line, and the identity that follows from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.runtime.config.compose import compose
from components.shared.runtime.config.settings import Config, PhaseSettings
from components.shared.runtime.errors import ConfigError, ForgeError, InputError, StoreError
from components.shared.runtime.identity import identity_of
from components.shared.runtime.request.command_line import parse
from components.shared.runtime.request.inputs import Request, read

CONFIGS = Path(__file__).parents[3] / "contract" / "toy_configs"


class Settings(PhaseSettings):
    steps: int = 60
    optimizer: str = "adamw"


def composed(*overrides: str, seed: int = 0) -> Config:
    return compose("toy", Settings, overrides=overrides, seed=seed, configs=CONFIGS)


@pytest.fixture
def plain_model(tmp_path: Path) -> Path:
    """A Hugging Face directory as its hub has them: no manifest."""
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"weight": np.ones((2, 3), np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORGE_PROGRESS", "FORGE_CHECKPOINTS", "FORGE_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)


def kfp(**changes: Any) -> str:
    given = {
        "inputs": {
            "parameterValues": {
                "settings": '{"profile":"small"}',
                "seed": 3.0,
                "index": 2.0,
                "rate": 0.5,
            },
            "artifacts": {
                "models": {"artifacts": [{"uri": "minio://pipe/a/1"}, {"uri": "minio://pipe/a/2"}]},
                "state": {"artifacts": [{"uri": "s3://bucket/state"}]},
                "absent": {"artifacts": []},
            },
        },
        "outputs": {
            "artifacts": {"results": {"artifacts": [{"uri": "gs://bucket/out/results"}]}},
            "outputFile": "/tmp/some/where/odd-name.json",
        },
    }
    return json.dumps(given | changes)


def test_the_input_of_kfp_names_places_and_parameters() -> None:
    request = parse("toy", "", ["--step", "worker", "--executor-input", kfp()])
    assert request.inputs == {"models": ["/minio/pipe/a/1", "/minio/pipe/a/2"], "state": ["/s3/bucket/state"]}
    assert (request.target, request.output_name) == ("/gcs/bucket/out/results", "results")
    assert request.output_file == Path("/tmp/some/where/odd-name.json") and not request.by_hand
    assert (request.settings, request.seed) == ('{"profile":"small"}', 3)
    assert request.parameters == {"index": 2, "rate": 0.5} and isinstance(request.parameters["index"], int)
    assert request.step == "worker"


def test_where_a_pod_runs_is_no_parameter_of_its_work() -> None:
    values = {"parameterValues": {"variant": "memory", "pipelinechannel--accelerator_type": "nvidia.com/gpu"}}
    assert parse("toy", "", ["--executor-input", kfp(inputs=values)]).parameters == {"variant": "memory"}


def test_settings_may_come_as_a_text_or_as_an_object() -> None:
    for settings in ({"toy": {"steps": 4}}, '{"toy":{"steps":4}}'):
        values = {"parameterValues": {"settings": settings}}
        request = parse("toy", "", ["--executor-input", kfp(inputs=values)])
        assert json.loads(request.settings) == {"toy": {"steps": 4}}


def test_overrides_beside_the_input_of_kfp_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"overrides beside it.*toy\.steps=4"):
        parse("toy", "", ["--executor-input", kfp(), "toy.steps=4"])


def output(uri: str) -> dict[str, Any]:
    return {"artifacts": {"model": {"artifacts": [{"uri": uri}]}}, "outputFile": "/tmp/f"}


@pytest.mark.parametrize(
    ("uri", "path"),
    [("minio://x/y", "/minio/x/y"), ("s3://x", "/s3/x"), ("gs://x/", "/gcs/x/"), ("/a/b", "/a/b")],
)
def test_an_address_of_kfp_is_where_its_launcher_mounts_it(uri: str, path: str) -> None:
    assert parse("toy", "", ["--executor-input", kfp(outputs=output(uri))]).target == path


def test_an_address_without_a_mount_is_refused() -> None:
    with pytest.raises(InputError, match=r"oci://.*minio://"):
        parse("toy", "", ["--executor-input", kfp(outputs=output("oci://registry/model"))])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"outputs": {"artifacts": {}}}'])
def test_an_input_that_kfp_did_not_write_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="KFP's input cannot be read"):
        parse("toy", "", ["--executor-input", text])


@pytest.mark.parametrize(
    "inputs",
    [[1], {"artifacts": {"model": None}}, {"artifacts": {"model": {"artifacts": ["x"]}}}, {"parameterValues": [1]}],
)  # fmt: skip
def test_inputs_that_kfp_did_not_write_are_refused(inputs: object) -> None:
    with pytest.raises(ConfigError, match="KFP's input cannot be read"):
        parse("toy", "", ["--executor-input", kfp(inputs=inputs)])


@pytest.mark.parametrize(
    "inputs",
    [None, {"artifacts": None, "parameterValues": None}, {"artifacts": {"model": {"artifacts": None}}}],
)
def test_null_is_nothing_as_in_protobufs_json(inputs: object) -> None:
    request = parse("toy", "", ["--executor-input", kfp(inputs=inputs)])
    assert (request.inputs, request.parameters) == ({}, {})


def test_an_artifact_whose_address_is_null_has_none() -> None:
    with pytest.raises(InputError, match="no address"):
        parse(
            "toy", "", ["--executor-input", kfp(inputs={"artifacts": {"m": {"artifacts": [{"uri": None}]}}})]
        )


@pytest.mark.parametrize("seed", [1.5, True, float("inf"), "x"])
def test_a_seed_that_is_no_integer_is_refused_and_not_rounded(seed: object) -> None:
    with pytest.raises(ConfigError, match="the seed is"):
        parse("toy", "", ["--executor-input", kfp(inputs={"parameterValues": {"seed": seed}})])


def test_two_outputs_are_one_too_many() -> None:
    two = output("/a")
    two["artifacts"]["other"] = {"artifacts": [{"uri": "/b"}]}
    with pytest.raises(ConfigError, match="model, other"):
        parse("toy", "", ["--executor-input", kfp(outputs=two)])


def test_by_hand_the_options_say_everything(tmp_path: Path) -> None:
    (tmp_path / "odd=name").mkdir()
    options = [
        "--input", "a", "--input", "state=s3://b/c", "toy.steps=4", "--input", str(tmp_path / "odd=name"),
        "--output", "out", "--seed", "5", "--profile", "small", "--set", "variant=memory", "--set", "index=3",
        "--set", "names=[1, 2]", "--set", "code_version=v1", "--checkpoints", "s3://b/k", "toy.rate=1",
    ]  # fmt: skip
    request = parse("toy", "", options)
    assert request.inputs == {"input_model": ["a", str(tmp_path / "odd=name")], "state": ["s3://b/c"]}
    assert request.by_hand and request.target == "out" and request.checkpoint_root == "s3://b/k"
    assert (request.seed, request.profile, request.code_version) == (5, "small", "v1")
    assert request.parameters == {"variant": "memory", "index": 3, "names": [1, 2]}
    assert request.overrides == ["toy.steps=4", "toy.rate=1"]


def test_the_environment_fills_what_was_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_PROGRESS", "p")
    monkeypatch.setenv("FORGE_CHECKPOINTS", "c")
    request = parse("toy", "", ["--output", "out"])
    assert (request.progress, request.checkpoint_root) == ("p", "c")
    request = parse("toy", "", ["--output", "out", "--progress", "q", "--checkpoints", "d"])
    assert (request.progress, request.checkpoint_root) == ("q", "d")


def test_without_an_output_nothing_is_done() -> None:
    with pytest.raises(ConfigError, match="--output"):
        parse("toy", "", [])


def test_help_teaches_by_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("bitnet", "Makes weights ternary.", ["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and "Makes weights ternary." in text
    assert "python -m components.bitnet --input" in text and "components/bitnet/README.md" in text


def test_a_plain_hugging_face_model_is_taken_by_hand_but_not_in_a_pipeline(plain_model: Path) -> None:
    by_hand = Request({"model": [str(plain_model)]}, "out")
    [found] = read(by_hand)["model"]
    assert found.manifest.phase == "adopted" and found.manifest.parameters == 6
    with pytest.raises(ForgeError, match=r"forge\.json"):
        read(replace(by_hand, output_file=Path("f")))


def test_an_input_that_is_not_there_is_named() -> None:
    with pytest.raises(StoreError, match="/no/such/place"):
        read(Request({"model": ["/no/such/place"]}, "out"))


def test_the_identity_follows_from_everything_that_determines_the_result(plain_model: Path) -> None:
    model: Artifact = adopt(plain_model)

    def of(
        *overrides: str,
        seed: int = 0,
        step: str = "",
        code: str = "1",
        parameters: dict[str, Any] | None = None,
        inputs: dict[str, list[Artifact]] | None = None,
    ) -> str:
        return identity_of(
            composed(*overrides, seed=seed),
            {"model": [model]} if inputs is None else inputs,
            step=step,
            parameters=parameters or {},
            code_version=code,
        )

    others = [
        of("toy.steps=61"),
        of(seed=1),
        of(step="worker"),
        of(code="2"),
        of(parameters={"index": 1}),
        of(inputs={}),
        of(inputs={"models": [model]}),
        of(inputs={"model": [model, model]}),
    ]
    assert len({of(), *others}) == len(others) + 1
    assert of() == of() == of("toy.checkpoint_seconds=1")


def test_a_changed_gate_is_other_work_but_not_other_checkpoints() -> None:
    def of(*overrides: str, with_gates: bool) -> str:
        config = composed(*overrides)
        return identity_of(config, {}, step="", parameters={}, code_version="1", with_gates=with_gates)

    gate = "toy.gates=[{metric: loss, value: 1}]"
    assert of(gate, with_gates=True) != of(with_gates=True)
    assert of(gate, with_gates=False) == of(with_gates=False)
