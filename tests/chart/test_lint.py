"""What others' linters say of the chart."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.chart import tools
from tests.chart.rendering import CHART, NEWEST, TABLE, values_file

EXEMPT = (
    # Versions are pinned. A tag that moves is what this check is about, and a node without a way out could not start.
    ("", "container-image-pull-policy", ""),
    # The pods that these two select are made by Kubeflow Pipelines, and not by the chart.
    ("", "networkpolicy-targets-pod", "-pipeline"),
    # OpenShift gives each namespace a range of its own, far above what the check wants.
    ("openshift", "container-security-context-user-group-id", ""),
)
"""(table, check, end of the object's name): critical for kube-score, and right."""


def _exempt(table: str, check: str, name: str) -> bool:
    return any(table.startswith(t) and check == c and name.endswith(n) for t, c, n in EXEMPT)


@pytest.mark.parametrize("table", TABLE)
def test_helm_lint_has_no_error_and_no_warning(table: str, helm: Path) -> None:
    command = [str(helm), "lint", str(CHART), "--strict", "--quiet", *NEWEST, *values_file(table)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not re.search(r"\[(ERROR|WARNING)\]", ended.stdout)


@pytest.mark.parametrize("table", TABLE)
def test_kube_score_finds_nothing_critical(table: str, helm: Path) -> None:
    try:
        score = tools.find("kube-score")
    except tools.Missing as missing:
        needs.lacks(str(missing))
    render = [
        str(helm),
        "template",
        "agent-forge",
        str(CHART),
        "--namespace",
        "kubeflow",
        *NEWEST,
        *values_file(table),
    ]
    objects = subprocess.run(render, capture_output=True, text=True, check=True).stdout
    command = [str(score), "score", "--output-format", "json", "-"]
    ended = subprocess.run(command, input=objects, capture_output=True, text=True)
    critical = [
        f"{thing['object_name']}: {check['check']['id']}: {[c['summary'] for c in check['comments'] or []]}"
        for thing in json.loads(ended.stdout)
        for check in thing["checks"]
        if check["grade"] == 1 and not check["skipped"]
        if not _exempt(table, check["check"]["id"], thing["object_meta"]["name"])
    ]
    assert not critical, "\n".join(critical)


def test_the_chart_can_be_packed_and_has_all_that_it_needs(helm: Path, tmp_path: Path) -> None:
    """What is in .helmignore is missing in the package; the package renders all the same."""
    packed = subprocess.run(
        [str(helm), "package", str(CHART), "--destination", str(tmp_path)], capture_output=True
    )
    assert packed.returncode == 0, packed.stderr
    (package,) = tmp_path.glob("agent-forge-*.tgz")
    subprocess.run([str(helm), "template", "x", str(package), *NEWEST], capture_output=True, check=True)
