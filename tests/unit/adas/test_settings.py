"""What the phase can be told, and what it refuses."""

import pytest

from components.adas.settings import Settings
from components.shared.runtime.config.compose import compose
from components.shared.runtime.errors import ConfigError

WORDS = "{name: words, tasks: [copy], levels: [1]}"


@pytest.mark.parametrize("profile", ["tiny", "small", "full"])
def test_every_profile_gives_settings(profile):
    assert len(compose("adas", Settings, profile=profile).settings.families) >= 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"adas.families=[{WORDS},{WORDS}]", "different names"),
        ("adas.families=[{name: other, tasks: [copy], levels: [1]}]", "different names"),
        (
            "adas.families=[{name: a, tasks: [copy], levels: [1]},{name: b, tasks: [copy], levels: [1]}]",
            "copy stands in two",
        ),
        (f"adas.families=[{WORDS}]  adas.other_tasks=[copy]", "copy stands in two"),
        ("adas.svf.low=0.9", "must be below high"),
        ("adas.svf.samples=1", "samples"),
    ],
)
def test_what_could_not_work_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        compose("adas", Settings, overrides=override.split("  "))
