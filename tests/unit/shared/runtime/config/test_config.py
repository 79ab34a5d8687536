"""Configuration: composed by Hydra, typed by pydantic, and errors that a person can act on."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from components.shared.runtime.code import CONFIGS
from components.shared.runtime.config.compose import compose, compose_all
from components.shared.runtime.config.settings import Config, PhaseSettings, parse
from components.shared.runtime.errors import ConfigError

PHASES = sorted(path.stem for path in (CONFIGS / "phase").glob("*.yaml"))


class Stage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    rate: float = Field(0.1, gt=0, le=1)


class Settings(PhaseSettings):
    steps: int = Field(10, ge=1, le=1000)
    codec: Literal["ternary", "seedlm", "vptq"] = "ternary"
    name: str = "agent"
    fast: bool = False
    stages: tuple[Stage, ...] = ()
    limit: int | None = Field(None, ge=5)


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A configuration of two phases and two profiles."""
    (tmp_path / "phase").mkdir()
    (tmp_path / "profile").mkdir()
    (tmp_path / "config.yaml").write_text("seed: 7\nevaluation:\n  items: 16\n  batch: 8\n")
    (tmp_path / "phase" / "press.yaml").write_text("steps: 20\nstages:\n  - rate: 0.5\n")
    (tmp_path / "phase" / "other.yaml").write_text("# nothing yet\n")
    (tmp_path / "profile" / "tiny.yaml").write_text("# @package _global_\nprofile: tiny\n")
    (tmp_path / "profile" / "big.yaml").write_text(
        "# @package _global_\nprofile: big\nevaluation:\n  items: 99\npress:\n  steps: 200\n"
    )
    return tmp_path


def press(configs: Path, *overrides: str, profile: str = "tiny", seed: int | None = None) -> Config:
    return compose("press", Settings, profile=profile, overrides=overrides, seed=seed, configs=configs)


def problem(configs: Path, *overrides: str, profile: str = "tiny") -> str:
    with pytest.raises(ConfigError) as caught:
        press(configs, *overrides, profile=profile)
    return str(caught.value)


def test_the_profile_overrides_the_phase_and_an_override_comes_last(configs: Path) -> None:
    assert press(configs).settings.steps == 20
    assert press(configs, profile="big").settings.steps == 200
    assert press(configs, "press.steps=3", profile="big").settings.steps == 3
    assert press(configs, profile="big").evaluation.items == 99


def test_a_setting_that_no_file_mentions_can_be_overridden(configs: Path) -> None:
    assert press(configs, "press.codec=vptq").settings.codec == "vptq"


def test_a_list_of_sections_is_typed_too(configs: Path) -> None:
    stages = press(configs, "press.stages=[{rate: 0.25}, {rate: 1}]").settings.stages
    assert [stage.rate for stage in stages] == [0.25, 1.0]


def test_a_gate_can_be_given_as_an_override(configs: Path) -> None:
    [gate] = press(configs, 'press.gates=[{metric: loss, op: "<", value: 3}]').settings.gates
    assert (gate.metric, gate.op, gate.value, gate.on_fail) == ("loss", "<", 3.0, "stop")


def test_an_unknown_key_in_a_file_is_reported_with_file_and_line_and_what_looks_like_it(
    configs: Path,
) -> None:
    (configs / "phase" / "press.yaml").write_text("steps: 20\ncodek: vptq\n")
    text = problem(configs)
    assert "press.codek" in text and "phase/press.yaml:2" in text and "codec" in text


def test_an_unknown_key_in_a_profile_is_reported_with_the_profile(configs: Path) -> None:
    with (configs / "profile" / "big.yaml").open("a") as file:
        file.write("  step: 3\n")
    text = problem(configs, profile="big")
    assert "press.step " in text and "profile/big.yaml:7" in text and "did you mean steps" in text


def test_a_wrong_value_is_reported_with_what_is_allowed(configs: Path) -> None:
    text = problem(configs, "press.codec=ternry")
    assert 'press.codec = "ternry"' in text and "override 'press.codec=ternry'" in text
    assert "ternary, seedlm, vptq" in text and "did you mean ternary" in text


def test_a_value_out_of_range_is_reported_with_both_bounds(configs: Path) -> None:
    (configs / "phase" / "press.yaml").write_text("steps: 2000\n")
    text = problem(configs)
    assert "press.steps = 2000" in text and "phase/press.yaml:1" in text
    assert "integer ≥ 1 and ≤ 1000" in text


def test_a_value_deep_in_a_list_is_reported_with_its_line(configs: Path) -> None:
    (configs / "phase" / "press.yaml").write_text("stages:\n  - rate: 0.5\n  - rate: 3.5\n")
    text = problem(configs)
    assert (
        "press.stages.1.rate = 3.5" in text and "phase/press.yaml:3" in text and "number > 0 and ≤ 1" in text
    )


def test_a_value_of_an_optional_setting_is_reported_with_its_bound(configs: Path) -> None:
    assert "integer ≥ 5 or null" in problem(configs, "press.limit=2")


@pytest.mark.parametrize("value", ['"20"', "true", "2.5", "[1]", "null", "1e400"])
def test_an_integer_is_nothing_but_an_integer(configs: Path, value: str) -> None:
    assert "press.steps" in problem(configs, f"press.steps={value}")


def test_a_common_setting_is_checked_too(configs: Path) -> None:
    text = problem(configs, "evaluation.items=0")
    assert "evaluation.items = 0" in text and "override" in text and "integer ≥ 2" in text


def test_all_problems_are_reported_at_once(configs: Path) -> None:
    text = problem(configs, "press.steps=0", "press.codec=zip", "evaluation.batch=-1")
    assert (
        "3 settings are wrong" in text and "steps" in text and "codec" in text and "evaluation.batch" in text
    )


def test_an_override_without_its_section_is_told_where_it_belongs(configs: Path) -> None:
    assert "press.steps" in problem(configs, "steps=3")


def test_an_override_that_cannot_be_read_is_shown(configs: Path) -> None:
    assert "press.steps" in problem(configs, "press.steps")
    assert "one value" in problem(configs, "press.steps=1,2")


@pytest.mark.parametrize("override", ["seed=3", "profile=big"])
def test_seed_and_profile_are_not_overrides(configs: Path, override: str) -> None:
    assert f"--{override.split('=')[0]}" in problem(configs, override)


def test_overrides_of_another_phase_have_no_effect_here(configs: Path) -> None:
    assert press(configs, "other.anything=3").digest == press(configs).digest


def test_a_name_in_the_registry_is_other_publishing_but_not_other_work(configs: Path) -> None:
    named = press(configs, "press.register_as=agent")
    assert named.work_digest == press(configs).work_digest and named.digest != press(configs).digest


def with_one_phase(configs: Path, phase: str, into: Path) -> Path:
    """The configuration as the image of that phase has it."""
    shutil.copytree(configs, into, ignore=shutil.ignore_patterns("phase"))
    (into / "phase").mkdir()
    shutil.copy(configs / "phase" / f"{phase}.yaml", into / "phase")
    return into


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_composes_the_same_without_the_defaults_of_the_others(phase: str, tmp_path: Path) -> None:
    alone = with_one_phase(CONFIGS, phase, tmp_path / "configs")
    kind = importlib.import_module(f"components.{phase}.settings").Settings
    another = "evomerge" if phase == "cognate" else "cognate"  # every profile says something of both
    overrides = [f"{another}.threads=1", f"{another}.made.up=2", f"~{another}.threads", f"{phase}.threads=3"]
    for profile in sorted(path.stem for path in (CONFIGS / "profile").glob("*.yaml")):
        whole, part = (
            compose(phase, kind, profile=profile, overrides=overrides, configs=configs)
            for configs in (CONFIGS, alone)
        )
        assert part.tree == whole.tree and part.digest == whole.digest, profile


def test_an_override_of_another_phase_to_which_this_one_refers_counts_without_its_defaults(
    tmp_path: Path,
) -> None:
    alone = with_one_phase(CONFIGS, "bitnet", tmp_path / "configs")
    kind = importlib.import_module("components.bitnet.settings").Settings
    override = ["cognate.standard.levels=[1]"]
    whole, part = (compose("bitnet", kind, overrides=override, configs=place) for place in (CONFIGS, alone))
    assert part.settings.levels == whole.settings.levels
    assert part.digest == whole.digest != compose("bitnet", kind, configs=alone).digest


def test_a_phase_is_known_by_its_profile_without_its_defaults_too(configs: Path, tmp_path: Path) -> None:
    with (configs / "profile" / "tiny.yaml").open("a") as file:
        file.write("other: {threads: 1}\n")
    alone = with_one_phase(configs, "press", tmp_path / "alone")
    assert press(alone, "other.anything=3", "~other.codec").digest == press(configs).digest
    assert "there is no setting 'ohter.x'" in problem(alone, "ohter.x=1")
    assert "phase/other.yaml" in _refusal(lambda: compose("other", Settings, configs=alone))


def _refusal(work: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        work()
    return str(caught.value)


def test_an_unknown_profile_lists_the_known_ones(configs: Path) -> None:
    assert "big, tiny" in problem(configs, profile="huge")


@pytest.mark.parametrize("data", [b"steps: 20\ncodec: \xff\n", b"steps: 20 # \x07\n", b"\xff\xfe\x00"])
@pytest.mark.parametrize("name", ["phase/press.yaml", "profile/big.yaml", "config.yaml"])
def test_a_file_that_is_not_text_in_utf_8_is_named(configs: Path, name: str, data: bytes) -> None:
    (configs / name).write_bytes(data)
    with pytest.raises(ConfigError, match="not YAML in UTF-8") as error:
        compose("press", Settings, profile="big", configs=configs)
    assert error.value.where.startswith(str(configs / name)) and error.value.why


def test_broken_yaml_is_reported_with_file_and_line(configs: Path) -> None:
    (configs / "phase" / "press.yaml").write_text("steps: 20\n  codec: [\n")
    assert "press.yaml:2" in problem(configs)


def test_the_seed_comes_from_the_files_unless_given(configs: Path) -> None:
    assert press(configs).seed == 7
    assert press(configs, seed=0).seed == 0
    with pytest.raises(ConfigError, match="seed"):
        press(configs, seed=-1)


def test_the_digest_changes_with_everything_that_the_phase_uses_and_with_nothing_else(configs: Path) -> None:
    digest = press(configs).digest
    for other in (
        press(configs, "press.steps=21"),
        press(configs, "evaluation.items=17"),
        press(configs, "press.gates=[{metric: loss, value: 1}]"),
        press(configs, seed=8),
        press(configs, profile="big"),
    ):
        assert other.digest != digest
    assert press(configs, "press.checkpoint_seconds=1").digest == digest
    assert press(configs, "press.steps=20").digest == digest


def test_gates_do_not_change_the_digest_of_the_work(configs: Path) -> None:
    assert press(configs, "press.gates=[{metric: loss, value: 1}]").work_digest == press(configs).work_digest
    assert press(configs, "press.steps=21").work_digest != press(configs).work_digest


@settings(max_examples=10, deadline=None)
@given(st.floats(min_value=1e-300, max_value=1.0, exclude_min=True))
def test_floats_arrive_exactly(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    class One(PhaseSettings):
        rate: float

    configs = tmp_path_factory.getbasetemp() / "floats"
    if not configs.exists():
        (configs / "phase").mkdir(parents=True)
        (configs / "profile").mkdir()
        (configs / "config.yaml").write_text("seed: 0\nevaluation: {items: 2, batch: 1}\n")
        (configs / "phase" / "one.yaml").write_text("")
        (configs / "profile" / "tiny.yaml").write_text("# @package _global_\nprofile: tiny\n")
    assert compose("one", One, overrides=[f"one.rate={value!r}"], configs=configs).settings.rate == value


def module(monkeypatch: pytest.MonkeyPatch, phase: str, settings: type[PhaseSettings]) -> None:
    found = ModuleType(f"components.{phase}.settings")
    found.Settings = settings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"components.{phase}", ModuleType(f"components.{phase}"))
    monkeypatch.setitem(sys.modules, found.__name__, found)


def test_validating_all_phases_reports_the_problems_of_all(
    configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(monkeypatch, "press", Settings)
    module(monkeypatch, "other", Settings)
    assert list(compose_all(["other", "press"], configs=configs)) == ["other", "press"]
    with pytest.raises(ConfigError) as caught:
        compose_all(["other", "press"], overrides=["press.steps=0", "other.codec=zip"], configs=configs)
    assert "press.steps" in str(caught.value) and "other.codec" in str(caught.value)


def test_validating_all_phases_misses_the_defaults_of_one(
    configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(monkeypatch, "press", Settings)
    module(monkeypatch, "other", Settings)
    (configs / "phase" / "other.yaml").unlink()
    assert "phase/other.yaml" in _refusal(lambda: compose_all(["other", "press"], configs=configs))


def test_a_phase_without_settings_is_named(configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch, "press", Settings)
    with pytest.raises(ConfigError, match=r"'other'.*components\.other\.settings"):
        compose_all(["other", "press"], configs=configs)


def handed(text: str, seed: int = 7) -> Config:
    """The settings as a task is given them."""
    return parse("press", Settings, text, seed)


def test_settings_survive_the_way_to_their_task(configs: Path) -> None:
    config = press(configs, "press.stages=[{rate: 0.25}]", "press.limit=9", "press.fast=true")
    assert handed(config.parameter) == config and handed(config.parameter, 8).digest != config.digest


@pytest.mark.parametrize("phase", PHASES)
def test_the_settings_of_every_phase_and_profile_survive_it(phase: str) -> None:
    kind = importlib.import_module(f"components.{phase}.settings").Settings
    for profile in sorted(path.stem for path in (CONFIGS / "profile").glob("*.yaml")):
        config = compose(phase, kind, profile=profile)
        assert parse(phase, kind, config.parameter, config.seed) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ('{"pres": {}}', "'pres' is unknown, did you mean press?"),
        ('{"evaluation": {"items": 1, "batch": 1}, "press": {"codec": "ternry"}}', "did you mean ternary?"),
        ('{"evaluation": {"items": 1, "batch": 1}, "press": {"steps": 0}}', "press.steps = 0"),
        ('{"evaluation": {"items": 1, "batch": 1}, "press": {"steps": NaN}}', "press.steps = NaN"),
        ('{"evaluation": {"items": 1, "batch": 1}, "press": {"stepz": 3}}', "did you mean steps?"),
        ('{"press": {}}', "evaluation.items is not set, allowed: integer ≥ 2"),
        ('{"profile": 3}', "the profile is 3"),
        ('{"evaluation": [], "press": 3}', "2 settings are wrong"),
    ],
)
def test_what_is_wrong_in_settings_that_were_handed_over_is_named_with_what_is_allowed(
    text: str, words: str
) -> None:
    message = _refusal(lambda: handed(text))
    assert words in message and "parameter settings" in message


def test_the_order_in_which_a_mixture_names_its_tasks_is_part_of_the_digest(configs: Path) -> None:
    class Mixing(PhaseSettings):
        steps: int = 1
        stages: tuple[Stage, ...] = ()
        tasks: dict[str, float]

    one, other = (
        compose("press", Mixing, overrides=[f"press.tasks={{{tasks}}}"], configs=configs)
        for tasks in ("a: 1, b: 2", "b: 2, a: 1")
    )
    assert one.digest != other.digest
    assert list(parse("press", Mixing, other.parameter, 7).settings.tasks) == ["b", "a"]
