"""The scripts for kind and the workflow that runs them: linted, and true to what they call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs
from tests.chart import command_lines, tools
from tests.chart.rendering import CHART, ROOT

KIND = ROOT / "charts" / "kind"
SCRIPTS = sorted(path for path in KIND.glob("*.sh") if path.name != "common.sh")
WORKFLOW = ROOT / ".github" / "workflows" / "kind.yml"
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


def _program(name: str) -> str:
    try:
        return str(tools.find(name))
    except tools.Missing as missing:
        needs.lacks(str(missing))


def _joined(script: Path) -> str:
    return re.sub(r"\\\n\s*", " ", script.read_text())


@pytest.mark.parametrize("script", sorted(KIND.glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    ended = subprocess.run(
        [_program("shellcheck"), "--external-sources", str(script)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout


@each_script
def test_every_script_stops_at_the_first_error_and_can_be_run(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert 'source "$(dirname "$0")/common.sh"' in script.read_text()
    assert "set -euo pipefail" in (KIND / "common.sh").read_text()


@each_script
def test_every_script_is_a_target_of_make(script: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^kind-{script.stem}:.*\n\tcharts/kind/{script.name}$", makefile, re.MULTILINE)


def test_the_forge_command_takes_what_the_scripts_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for script in SCRIPTS for line in command_lines.in_text(_joined(script))]
    assert [line[0] for line in lines] == ["submit", "submit"]
    monkeypatch.setenv("KFP_HOST", "http://localhost:8080")  # as the script exports it
    for arguments in lines:
        assert not command_lines.refused(arguments), arguments


@each_script
def test_files_that_a_script_names_are_there(script: Path) -> None:
    for path in re.findall(r"\bcharts/[\w./-]+", script.read_text()):
        assert (ROOT / path).exists(), path


def test_helm_and_kubectl_are_told_which_cluster() -> None:
    """A script that takes whatever context is current would one day install into somebody's production."""
    for script in SCRIPTS:
        for line in _joined(script).splitlines():
            if re.match(r"\s*helm ", line):
                assert '--kube-context "$CONTEXT"' in line, line
            if re.match(r"\s*kubectl ", line):
                assert '--context "$CONTEXT"' in line, line


def test_kubeflow_pipelines_has_one_version_everywhere() -> None:
    (version,) = re.findall(r"^KFP_VERSION=(\S+)$", (KIND / "common.sh").read_text(), re.MULTILINE)
    for page in (KIND / "README.md", CHART / "README.md"):
        assert version in page.read_text(), page
    locked = (ROOT / "requirements.lock").read_text()
    assert re.search(rf"^kfp=={re.escape(version)} ", locked, re.MULTILINE), (
        "the client is of the server's version"
    )


def test_the_cluster_is_one_that_kind_knows() -> None:
    (cluster,) = yaml.safe_load_all((KIND / "cluster.yaml").read_text())
    assert (cluster["kind"], cluster["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert set(cluster) == {"kind", "apiVersion", "nodes"}
    for node in cluster["nodes"]:
        assert set(node) <= {"role", "image", "labels", "kubeadmConfigPatches"}
        assert re.fullmatch(r"kindest/node:v1\.\d+\.\d+@sha256:[0-9a-f]{64}", node["image"])


def test_the_script_to_load_images_names_the_nine_that_the_pipeline_runs() -> None:
    (program,) = re.findall(r"^names='(.*)'$", (KIND / "load.sh").read_text(), re.MULTILINE)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AGENT_FORGE_")}
    environment |= {"AGENT_FORGE_LOCK": "", "AGENT_FORGE_REGISTRY": ""}  # as common.sh has it
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    from pipelines.phases import PHASES

    names = ended.stdout.split()
    assert [re.sub(r".*/|:.*", "", name) for name in names] == [*PHASES, "forge"]
    assert all(name.startswith("localhost/agent-forge/") for name in names)


def _steps() -> list[dict[str, Any]]:
    return list(yaml.safe_load(WORKFLOW.read_text())["jobs"]["kind"]["steps"])


def test_the_workflow_is_one() -> None:
    check = [_program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    ended = subprocess.run(check, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_actionlint_has_nothing_to_say_about_the_workflow() -> None:
    ended = subprocess.run([_program("actionlint"), str(WORKFLOW)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_the_workflow_runs_targets_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [
        step["run"].removeprefix("make ") for step in _steps() if step.get("run", "").startswith("make ")
    ]
    assert targets == ["setup", "images", "kind-up", "kind-load", "kind-test", "kind-down"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_action_is_pinned_by_a_commit() -> None:
    for step in _steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
