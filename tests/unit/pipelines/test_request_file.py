"""A run's request as a file, and options that take several values."""

import json
from pathlib import Path

import pytest

from components.shared.runtime.errors import ConfigError
from pipelines.api import request
from pipelines.cli.several import expanded
from pipelines.request_file import merged, overrides_of, read
from pipelines.settings import composed


@pytest.fixture
def file(tmp_path):
    def write(content, name="run.yaml"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


WHOLE = """
profile: micro
seed: 7
base_models: [standard, ./my-model]
from: cognate
enable_compression: false
generations: 3
output_dir: out
bitnet: {steps: 9, lr: 1e-3}
training: {grokfast: {strength: 3}, tasks: "${cognate.trunk.tasks}"}
"""


def test_options_and_settings_of_a_file_are_a_request(file):
    made = request(**read(file(WHOLE)))
    assert (made.profile, made.seed, made.runs, made.first) == ("micro", 7, Path("out"), "cognate")
    assert (list(made.base_models), list(made.without)) == (["standard", "./my-model"], ["compression"])
    settings = composed(profile=made.profile, overrides=made.overrides, seed=made.seed)
    assert settings["evomerge"].settings.generations == 3
    assert (settings["bitnet"].settings.steps, settings["bitnet"].settings.lr) == (9, 0.001)
    assert settings["training"].settings.grokfast.strength == 3
    assert settings["training"].settings.grokfast.alpha == 0.98
    assert "chain" in settings["training"].settings.tasks


def test_json_says_the_same(file):
    content = {"profile": "micro", "bitnet": {"steps": 9}, "to": "bitnet"}
    made = request(**read(file(json.dumps(content), "run.json")))
    assert made.last == "bitnet" and list(made.overrides) == ["bitnet.steps=9"]


def test_options_of_the_command_line_win_and_those_not_given_change_nothing(file):
    options = {
        "profile": None, "seed": 8, "overrides": ["bitnet.steps=10"], "first": "cognate", "runs": Path("runs"),
        "cache": False, "base_models": [], "generations": None, "enabled": {"evomerge": None, "compression": True},
    }  # fmt: skip
    made = request(**merged(file(WHOLE), options))
    assert (made.profile, made.seed, made.cache, made.runs) == ("micro", 8, False, Path("out"))
    assert list(made.without) == [] and len(made.base_models) == 2
    assert composed(profile="micro", overrides=made.overrides)["bitnet"].settings.steps == 10
    assert request(**merged(None, options)).base_models == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("bitnte: {steps: 1}", "did you mean bitnet"),
        ("base_model: [a]", "did you mean base_models"),
        ("bitnet: 3", "holds no settings"),
        ("rounds: two", "valid integer"),
        ("generations: 0", "greater than or equal to 1"),
        ("[a, b]", "holds no keys"),
        ("a: [", "not YAML"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(file, content, said):
    with pytest.raises(ConfigError, match=said):
        read(file(content))
    with pytest.raises(ConfigError, match="cannot be read"):
        read(Path("/nowhere/run.yaml"))


def test_any_value_reaches_the_settings_as_it_was(file):
    stages = [
        {"name": f"it's {number}, [odd] \\ = {{x}}", "kind": "adaptation", "steps": 1, "levels": [1]}
        for number in range(10)
    ]
    overrides = list(overrides_of({"training": {"stages": stages, "grokfast": None, "lr": 0.5}}))
    settings = composed(["training"], profile="micro", overrides=overrides)["training"].settings
    assert [stage.name for stage in settings.stages] == [stage["name"] for stage in stages]
    assert settings.grokfast is None and settings.lr == 0.5


@pytest.mark.parametrize(
    ("switches", "generations", "said"),
    [
        ({"compression": True}, None, "not among those that run"),
        ({"evomerge": False}, 3, "evomerge does not run"),
    ],
)
def test_an_option_without_effect_is_refused(switches, generations, said):
    with pytest.raises(ConfigError, match=said):
        merged(None, {"last": "adas", "overrides": [], "generations": generations, "enabled": switches})


def test_values_behind_one_option_get_it_each():
    words = ["--base-models", "a", "b", "--seed", "1", "--base-models", "c", "--base-models"]
    assert expanded(words) == [
        *("--base-models", "a", "--base-models", "b", "--seed", "1"), *("--base-models", "c", "--base-models"),
    ]  # fmt: skip


def test_phases_are_left_out_by_name_in_a_file_and_on_the_command_line(file):
    base = file("profile: micro\nwithout: [bitnet]\nenable_compression: false\n")
    made = request(**merged(base, {"without": ["baking"], "enabled": {}}))
    assert set(made.without) == {"bitnet", "baking", "compression"}
    with pytest.raises(ConfigError, match="switched on, and left out"):
        merged(base, {"without": ["evomerge"], "enabled": {"evomerge": True}})


def test_the_size_of_the_agent_is_given_in_bytes_or_in_megabytes():
    sizes = {"bytes=200000": 200_000, "target_size_mb=1.5": 1_500_000, "bytes=null": None}
    for override, expected in sizes.items():
        settings = composed(["compression"], profile="tiny", overrides=[f"compression.{override}"])
        assert settings["compression"].settings.size == expected
    with pytest.raises(ConfigError, match="leave one out"):
        composed(["compression"], profile="micro", overrides=["compression.target_size_mb=1"])
