"""Options of `forge run-pipeline` and `forge validate` that shape a run, seen in its plan."""

import json

import pytest

from components.shared.runtime.errors import ConfigError
from pipelines.agent_forge import pipeline, text
from pipelines.ir import reader


def planned(forge, *arguments):
    """The plan of a run: phase → names of its tasks, and the whole."""
    code, output = forge("run-pipeline", "--profile", "micro", "--dry-run", "--json", *arguments)
    assert code == 0, output
    plan = json.loads(output)
    phases = {}
    for task in plan["tasks"]:
        phases.setdefault(task["phase"] or task["name"], []).append(task["name"])
    return phases, plan


def test_without_evomerge_the_one_base_model_goes_on_as_it_is(forge):
    phases, plan = planned(forge, "--no-evomerge", "--no-compression")
    assert list(phases) == ["cognate", "quietstar", "bitnet", "training", "baking", "adas", "report"]
    assert phases["cognate"] == ["cognate-trunk", "cognate-variant-1"]
    assert plan["pipeline"] == "agent-forge-without-evomerge-without-compression"
    [quietstar] = [task for task in plan["tasks"] if task["name"] == "quietstar"]
    assert quietstar["depends_on"] == ["cognate-variant-1"]


def test_switched_on_is_what_it_is_anyway(forge):
    phases, plan = planned(forge, "--enable-evomerge", "--enable-compression")
    assert plan["pipeline"] == "agent-forge" and {"evomerge", "compression"} <= set(phases)


def test_several_base_models_stand_behind_one_option_and_generations_are_a_setting(forge, tmp_path):
    phases, plan = planned(
        forge, "--base-models", "standard", "memory", "--generations", 5, "--output-dir", tmp_path / "out"
    )
    assert phases["cognate"] == ["cognate-trunk", "cognate-variant-1", "cognate-variant-2"]
    assert (plan["parameters"]["base_model_1"], plan["parameters"]["base_model_2"]) == ("standard", "memory")
    assert json.loads(plan["parameters"]["evomerge_settings"])["evomerge"]["generations"] == 5
    assert plan["folder"].startswith(str(tmp_path / "out")) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-evomerge", "--base-models", "standard", "memory"], "no phase that makes one of them"),
        (["--no-evomerge", "--from", "evomerge", "-a", "x", "-a", "y"], "is the first"),
        (["--enable-compression", "--to", "adas"], "not among those that run"),
        (["--no-evomerge", "--generations", 3], "evomerge does not run"),
        (["--base-models"], "requires an argument"),
        (["--config", "none.yaml"], "cannot be read"),
    ],
)
def test_what_the_graph_cannot_do_is_refused(forge, arguments, said):
    code, output = forge("run-pipeline", "--profile", "micro", "--dry-run", *arguments)
    assert code == 2 and said in output


def test_any_phase_but_the_first_can_be_left_out_of_the_graph():
    compiled = reader.parse(text(pipeline(start="quietstar", without=["training"], pinned=False)))
    assert compiled.name == "agent-forge-quietstar-to-compression-without-training"
    assert "training_settings" not in compiled.root.parameters
    with pytest.raises(ConfigError, match="did you mean training"):
        pipeline(without=["trainin"])


def test_a_file_is_validated_and_its_plan_printed_with_what_it_takes(forge, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("profile: micro\nenable_compression: false\nbitnet: {steps: 9, threads: 1}\n")
    code, output = forge("validate", "--config", file, "--dry-run", "--json")
    content = json.loads(output)
    assert code == 0 and content["phases"]["bitnet"]["settings"]["bitnet"]["steps"] == 9
    plan = content["plan"]
    assert plan["seconds"] is None and "compression" not in {task["phase"] for task in plan["tasks"]}
    resources = plan["resources"]["phases"]
    assert resources["evomerge"]["accelerators"] == 1 and resources["bitnet"]["accelerators"] == 0
    assert (resources["bitnet"]["tasks"], resources["bitnet"]["threads"]) == (1, 1)
    assert resources["bitnet"]["pod"] == {"cpu": "4", "memory": "16Gi"}
    code, output = forge("validate", "--config", file, "--dry-run")
    assert code == 0 and f"ok   {file}" in output and "pod on Kubeflow" in output
    file.write_text("bitnet: {setps: 9}\n")
    code, output = forge("validate", "--config", file)
    assert code == 2 and "did you mean steps" in output
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
