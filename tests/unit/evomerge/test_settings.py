"""The shape of a search is checked by whoever submits it, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.evomerge.settings import Settings, check_fan_out
from components.shared.runtime.config.compose import compose
from components.shared.runtime.errors import ConfigError


def settings(*overrides: str, profile: str = "tiny") -> Settings:
    composed = compose("evomerge", Settings, profile=profile, overrides=overrides).settings
    assert isinstance(composed, Settings)
    return composed


def test_islands_live_any_number_of_generations_in_a_round() -> None:
    assert settings().fan_out == "islands"
    check_fan_out(settings("evomerge.generations=64"), rounds=2, workers=2)


def test_a_shared_population_lives_one_generation_a_round_and_both_numbers_are_named() -> None:
    shared = settings("evomerge.fan_out=evaluations", "evomerge.generations=4")
    check_fan_out(shared, rounds=4, workers=3)
    with pytest.raises(ConfigError) as refused:
        check_fan_out(shared, rounds=2, workers=3)
    assert "4 generations" in str(refused.value) and "2 rounds" in str(refused.value)
    assert "What to do" in str(refused.value)


def test_nobody_cannot_search() -> None:
    with pytest.raises(ConfigError, match="0 workers"):
        check_fan_out(settings(), rounds=2, workers=0)


def test_one_population_has_one_strategy() -> None:
    with pytest.raises(ConfigError, match="one strategy"):
        settings("evomerge.fan_out=evaluations", profile="small")
    catcma = settings("evomerge.fan_out=evaluations", "evomerge.strategies=[catcma]", profile="small")
    assert catcma.strategies == ("catcma",)


def test_checking_the_shape_of_a_search_loads_no_torch() -> None:
    check = (
        "import sys, components.evomerge.settings; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
