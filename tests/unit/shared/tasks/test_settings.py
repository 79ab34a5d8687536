"""A setting that no run could work with is refused where the run is asked for."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from components.shared.runtime.config.compose import compose
from components.shared.runtime.config.settings import model_of
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.settings import Weights

REFUSED = {
    "baking.bakes=[{behaviour:evil,steps:1}]": "no behaviour 'evil'",
    "baking.anchor_tasks={evil:1}": "no task 'evil'",
    "adas.families=[{name:a,tasks:[recal],levels:[1]}]": "did you mean recall",
    "adas.other_tasks=[evil]": "no task 'evil'",
    "adas.cem.items=1": "integer ≥ 2",
    "bitnet.tasks={evil:1}": "no task 'evil'",
    "bitnet.tasks={chain:-1}": "number ≥ 0",
    "bitnet.tasks={chain:0}": "no task has a weight above 0",
    "bitnet.levels=[-1]": "integer ≥ 1 and ≤ 10",
    "bitnet.levels={chain:[1]}": "no levels for max",
    "bitnet.threads=100000000": "≤ 512",
    "cognate.trunk.threads=2000": "≤ 512",
    "bitnet.levels=[]": "at least 1 long",
    "baking.levels=[]": "at least 1 long",
    "cognate.model.hidden_size=33": "not a multiple of num_attention_heads",
    "cognate.model.num_key_value_heads=3": "not a multiple of num_key_value_heads",
    "cognate.model.memory_heads=3": "not a multiple of memory_heads",
    "cognate.model.num_attention_heads=128": "must be even",
    "quietstar.questions.tasks={evil:1}": "no task 'evil'",
    "quietstar.text.levels={chain:[1]}": "no levels for",
    "training.stages.0.levels=[99]": "integer ≥ 1 and ≤ 10",
    "training.stages.0.tasks={evil:1}": "no task 'evil'",
    "evomerge.items=1": "integer ≥ 2",
    "compression.search_items=1": "integer ≥ 2",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_could_only_fail_late_is_refused_early(override: str) -> None:
    phase = override.partition(".")[0]
    with pytest.raises(ConfigError) as refused:
        compose(phase, model_of(phase), overrides=[override])
    assert REFUSED[override] in str(refused.value) and "constrained" not in str(refused.value)


def test_a_file_of_text_is_looked_for_where_the_phase_runs() -> None:
    weights = {"file:/not/here/but/there.txt": 1.0}
    assert TypeAdapter(Weights).validate_python(weights) == weights


@pytest.mark.parametrize("profile", ["micro", "tiny", "small", "full"])
def test_the_profiles_train_what_the_later_phases_ask_for(profile: str) -> None:
    trunk = compose("cognate", model_of("cognate"), profile=profile).tree["cognate"]["trunk"]["tasks"]
    bakes = compose("baking", model_of("baking"), profile=profile).tree["baking"]["bakes"]
    assert {bake["behaviour"] for bake in bakes} <= set(trunk)


def test_settings_know_the_tasks_without_numpy() -> None:
    script = "import sys; import components.baking.settings; sys.exit(any(m in sys.modules for m in ('numpy', 'torch')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
