"""A new phase is one folder: made in a copy of the project, it is found, passes its contract and runs in a pipeline."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.runtime.artifact import artifact
from components.shared.runtime.errors import ConfigError
from pipelines.cli.project.new_phase import write
from pipelines.phases import PHASES
from tests.contract.phases.tiny_ternary import llama

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what a phase needs, with the phase `distill` between adas and compression."""
    root = tmp_path_factory.mktemp("project")
    for name in ("components", "pipelines", "configs", "tests/contract"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    write("distill", "adas", root)
    return root


def python(root, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
    environment |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_found_in_its_place_and_nothing_else_has_to_be_told_of_it(project):
    code = (
        "from pipelines import agent_forge, phases, settings\n"
        "from pipelines.cluster import load\n"
        "from pipelines.local.cache_key import PHASES\n"
        "from pipelines.report import records\n"
        "spec = phases.SPECS['distill']\n"
        "assert records.PHASES == PHASES == phases.PHASES\n"
        "assert load().timeout.of(spec) == spec.timeout_seconds and load('gpu').wants_gpu(spec)\n"
        "assert 'distill_settings' in settings.as_parameters(settings.composed(profile='full'))\n"
        "assert 'components.distill' in agent_forge.text(agent_forge.pipeline())\n"
        "print(*phases.PHASES)"
    )
    before, after = PHASES[:-1], PHASES[-1:]
    assert python(project, "-c", code).split() == [*before, "distill", *after]


def test_it_passes_the_contract_of_a_phase(project):
    tests = ("tests/contract/phases/test_distill.py", "tests/unit/distill")
    python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


@pytest.mark.parametrize("check", ["ruff check", "ruff format --check", "vulture"])
def test_it_passes_the_checks_of_the_whole_project(project, check):
    tool, *arguments = check.split()
    files = (
        [] if tool == "vulture" else [*project.glob("components/distill"), *project.rglob("test_distill*")]
    )
    if tool == "ruff":
        arguments += ["--no-cache", "--config", project / "pyproject.toml"]
    python(project, "-m", tool, *arguments, *files)


def test_it_runs_in_a_pipeline_of_its_own(project, tmp_path):
    model = llama(tmp_path / "llama")
    artifact.seal(model, kind="model", phase="adas")
    options = ["--from", "distill", "--to", "distill", "--artifact", model, "-O", "evaluation.items=8"]
    python(
        project, "-m", "pipelines.cli", "run-pipeline", *options, "--runs", tmp_path, "--name", "one",
        "-O", "distill.steps=2",
    )  # fmt: skip
    manifest = json.loads((tmp_path / "one" / "artifacts" / "distill" / "model" / "forge.json").read_text())
    assert manifest["phase"] == "distill" and manifest["config"]["distill"]["steps"] == 2


@pytest.mark.parametrize(
    ("name", "after", "words"),
    [
        ("Distill", "adas", "no name for a phase"),
        ("shared", "adas", "'shared' is what something else"),
        ("adas", "adas", "there is a 'adas' already"),
        ("distill", "adaz", "did you mean adas?"),
    ],
)
def test_what_cannot_be_a_phase_is_refused_and_nothing_is_written(tmp_path, name, after, words):
    for there in ("shared", "adas"):
        (tmp_path / "components" / there).mkdir(parents=True)
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        write(name, after, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
